"""The library works with torch and numpy alone; .ci/run tries it in an environment that has no more."""

from pathlib import Path

from interpreter import python

HIDDEN = {"tqdm", "typer", "matplotlib", "torchvision", "scipy", "h5py", "nir", "onnx", "onnxscript", "snnfast_zoo"}


def test_the_library_works_with_torch_and_numpy_alone():
    hide = f"import sys\nfor name in {sorted(HIDDEN)}: sys.modules[name] = None\n"
    script = Path(__file__).with_name("bare.py").read_text()
    assert "torch and numpy alone" in python(hide + script.replace('"snnfast_zoo" not in loaded', "True")).stdout

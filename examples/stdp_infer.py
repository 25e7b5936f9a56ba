"""STDP, 3 of 3: the labelled neurons vote on the test images.

python examples/stdp_infer.py
"""

import argparse

import torch
from torch.utils.data import DataLoader

import snnfast
import snnfast.data
import snnfast.learning


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--file", default="stdp.pt", help="of stdp_train.py")
    parser.add_argument("--labels", default="stdp_labels.pt", help="of stdp_assign.py")
    opt = parser.parse_args()

    trained = torch.load(opt.file, weights_only=True)
    assigned = snnfast.learning.Assignment(**torch.load(opt.labels, weights_only=True))
    torch.manual_seed(2)
    test = snnfast.data.load(**trained["data"], split="test")

    model = snnfast.papers.DiehlAndCook2015(**trained["network"])
    model.load_state_dict(trained["model"])
    counts, labels = model.respond(
        (images * trained["hz"], labels) for images, labels in DataLoader(test, batch_size=1000)
    )
    for vote in ("mean", "proportion"):
        predicted = snnfast.learning.predict(counts, assigned, vote=vote)
        print(f"{vote} vote: {100 * (predicted == labels).double().mean():.2f} %")


if __name__ == "__main__":
    main()

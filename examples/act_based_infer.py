"""Conversion after Diehl et al. 2015, 2 of 2: the network of act_based_train.py with spikes.

python examples/act_based_infer.py
python examples/act_based_infer.py --reset soft
"""

import argparse

import torch
from torch.utils.data import DataLoader

import snnfast
import snnfast.data
import snnfast.n3ml.threshold


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--file", default="act_based.pt", help="of act_based_train.py")
    parser.add_argument("--num-steps", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument(
        "--reset", choices=["hard", "soft"], default="hard", help="hard: the paper's"
    )
    parser.add_argument("--percentile", type=float, default=99.9, help="100 is the paper's maximum")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-steps", type=int, help="batches to test, to try it out")
    opt = parser.parse_args()
    torch.manual_seed(opt.seed)

    trained = torch.load(opt.file, weights_only=True)
    train, test = (
        snnfast.data.load(**trained["data"], split=split) for split in ("train+val", "test")
    )
    ann = snnfast.papers.Diehl2015(**trained["network"])
    ann.load_state_dict(trained["model"])
    snn = snnfast.papers.SNN_Diehl2015(opt.batch_size, reset=opt.reset, **trained["network"])
    snn.load_state_dict(trained["model"], strict=False)  # all but the thresholds
    if torch.cuda.is_available():
        ann, snn = ann.cuda(), snn.cuda()

    threshold = snnfast.threshold.activation_based(
        train_loader=DataLoader(train, batch_size=1000), model=ann, percentile=opt.percentile
    )
    snn.update_threshold(threshold)
    print("thresholds:", ", ".join(f"{t:.3g}" for t in threshold))

    corrects = total = 0
    for step, (images, labels) in enumerate(DataLoader(test, batch_size=opt.batch_size)):
        if step == opt.max_steps:
            break
        counts = snn(images, num_steps=opt.num_steps)
        corrects += (counts.argmax(1) == labels).sum().item()
        total += len(labels)
        print(f"{total} images: {100 * corrects / total:.2f} %")


if __name__ == "__main__":
    main()

"""STDP, 2 of 3: every neuron gets the class to whose training images it responds most.

python examples/stdp_assign.py
"""

import argparse

import torch
from torch.utils.data import DataLoader, Subset

import snnfast
import snnfast.data
import snnfast.learning


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--file", default="stdp.pt", help="of stdp_train.py")
    parser.add_argument("--labels", default="stdp_labels.pt", help="where the labels go")
    parser.add_argument("--images", type=int, default=10_000, help="training images, the last ones")
    opt = parser.parse_args()

    trained = torch.load(opt.file, weights_only=True)
    torch.manual_seed(1)
    train = snnfast.data.load(**trained["data"], split="train+val")
    train = Subset(train, range(max(0, len(train) - opt.images), len(train)))

    model = snnfast.papers.DiehlAndCook2015(**trained["network"])
    model.load_state_dict(trained["model"])
    counts, labels = model.respond(
        (images * trained["hz"], labels) for images, labels in DataLoader(train, batch_size=1000)
    )
    assigned = snnfast.learning.assign_labels(counts, labels, num_classes=10)
    print("neurons of each class:", [(assigned.labels == c).sum().item() for c in range(10)])
    torch.save(assigned._asdict(), opt.labels)


if __name__ == "__main__":
    main()

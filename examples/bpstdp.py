"""BP-STDP: train the network of Tavanaei and Maida with the loop of n3ml's manual, or with one call.

python examples/bpstdp.py --data digits
python examples/bpstdp.py --data ~/mnist --fast
"""

import argparse
from itertools import islice

import torch
from torch.utils.data import DataLoader

import snnfast
import snnfast.data
import snnfast.encoder
import snnfast.nn.loss
import snnfast.optimizer


def train(loader, model, encoder, optimizer, opt):
    """Train image by image and step by step, as in the manual."""
    corrects, total_loss, total = 0, 0.0, 0
    for image, label in islice(loader, opt.max_steps):
        image, label = image.squeeze(dim=0), label.squeeze()
        spiked_image = encoder(image).flatten(1)
        spiked_label = snnfast.encoder.label_encoder(label, opt.beta, opt.num_classes, opt.time_interval)
        spike_buffer = {"inp": [], "fc1": [], "fc2": []}
        for t in range(opt.time_interval):
            model(spiked_image[t])
            spike_buffer["inp"].append(spiked_image[t])
            spike_buffer["fc1"].append(model.fc1.o)
            spike_buffer["fc2"].append(model.fc2.o)
            optimizer.step(spike_buffer, spiked_label[t], label)
        model.reset_variables(w=False)

        answer = torch.stack(spike_buffer["fc2"])
        corrects += (answer.sum(0).argmax() == label).item()
        total_loss += snnfast.loss.bp_stdp_loss(answer, spiked_label, label, opt.epsilon).item()
        total += 1
    return corrects / total, total_loss / total


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits", help="digits, or the folder of MNIST")
    parser.add_argument("--fast", action="store_true", help="the same in one call an epoch")
    parser.add_argument("--num-classes", type=int, default=10)
    parser.add_argument("--hidden-neurons", type=int, default=500)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--time-interval", type=int, default=20)
    parser.add_argument("--beta", type=float, default=250)
    parser.add_argument("--epsilon", type=int, default=4)
    parser.add_argument("--lr", type=float, default=0.0005)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-steps", type=int, help="images an epoch, to try it out")
    opt = parser.parse_args()
    torch.manual_seed(opt.seed)

    name, root = ("digits", None) if opt.data == "digits" else ("mnist", opt.data)
    train_loader, test_loader = (
        DataLoader(snnfast.data.load(name, root, split=split), shuffle=split != "test")
        for split in ("train+val", "test")
    )

    model = snnfast.model.TravanaeiAndMaida2017(
        opt.num_classes, opt.hidden_neurons, in_features=64 if name == "digits" else 784
    )
    encoder = snnfast.encoder.Simple(time_interval=opt.time_interval)
    optimizer = snnfast.optimizer.TavanaeiAndMaida(model, lr=opt.lr, epsilon=opt.epsilon)
    rule = {"epsilon": opt.epsilon, "beta": opt.beta}

    for epoch in range(opt.epochs):
        if opt.fast:
            images = islice(train_loader, opt.max_steps)
            trained = model.fit(images, encoder, lr=opt.lr, **rule)
            train_acc, train_loss = trained.accuracy, trained.loss
        else:
            train_acc, train_loss = train(train_loader, model, encoder, optimizer, opt)
        test = model.score(islice(test_loader, opt.max_steps), encoder, **rule)
        print(
            f"epoch {epoch + 1}: training {100 * train_acc:.2f} % (loss {train_loss:.4f}), "
            f"test {100 * test.accuracy:.2f} % (loss {test.loss:.4f})"
        )


if __name__ == "__main__":
    main()

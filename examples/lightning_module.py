"""Train a network with Lightning: its loop, loggers, checkpoints and devices around layers of this package.

    pip install lightning
    python examples/lightning_module.py --epochs 3

``Trainer(devices=2)`` trains it in two processes, by DistributedDataParallel.
"""

import argparse

import lightning
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from snnfast import data
from snnfast.nn import LI, LIF, Last, Time


class Classifier(lightning.LightningModule):
    """A spiking network on images ``[B, 1, 8, 8]``, each the input current of all steps."""

    def __init__(self, num_steps=8, lr=4e-3):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(
            Time(nn.Flatten(), nn.Linear(64, 100)),
            LIF(decay_input=False),
            Time(nn.Linear(100, 10)),
            LI(tau=4.0),
            Last(),
        )

    def forward(self, images):
        """Return the membranes of the outputs after the last step, ``[B, 10]``."""
        return self.net(images.expand(self.hparams.num_steps, *images.shape))

    def training_step(self, batch, index):
        """Return the loss of a batch."""
        images, labels = batch
        loss = cross_entropy(self(images), labels)
        self.log("loss", loss)
        return loss

    def test_step(self, batch, index):
        """Log the accuracy on a batch."""
        images, labels = batch
        right = (self(images).argmax(1) == labels).float().mean()
        self.log("accuracy", right, batch_size=len(labels), sync_dist=True)

    def configure_optimizers(self):
        """Return the optimizer."""
        return torch.optim.Adam(self.parameters(), lr=self.hparams.lr)

    def on_train_epoch_end(self):
        """Print the loss of the last batch."""
        loss = self.trainer.callback_metrics["loss"]
        self.print(f"epoch {self.current_epoch + 1}: loss {loss:.4f}")


def part(split, **options):
    return DataLoader(TensorDataset(*data.as_tensors(data.load("digits", split=split))), **options)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--devices", type=int, default=1, help="processes, or GPUs")
    parser.add_argument("--max-steps", type=int, default=None, help="batches an epoch")
    options = parser.parse_args()
    lightning.seed_everything(0)
    trainer = lightning.Trainer(
        max_epochs=options.epochs,
        devices=options.devices,
        limit_train_batches=options.max_steps,
        limit_test_batches=options.max_steps,
        enable_progress_bar=False,
        logger=False,
        enable_checkpointing=False,
    )
    classifier = Classifier()
    trainer.fit(classifier, part("train", batch_size=32, shuffle=True))
    trainer.test(classifier, part("test", batch_size=500))


if __name__ == "__main__":
    main()

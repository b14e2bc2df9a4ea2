"""A toy problem for the engine's tests, and what their other processes do with it.

python toy_training.py slowly FOLDER      to be killed
torchrun ... toy_training.py shared FOLDER [arguments of tedloc.train]
"""

import sys
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from tedloc import train
from tedloc.settings import OptimiserSettings
from tedloc.training import distributed, engine

X = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
Y = X[:, :3].argmax(1)
SETTINGS = OptimiserSettings(epochs=4, batch_size=8)
# two processes get 5 and 4 images of a batch, 3 and 2 of the last
UNEVEN = OptimiserSettings(epochs=4, batch_size=9, learning_rate=0.1)


class Interrupted(Exception):
    pass


def model(dropout: float = 0.0) -> nn.Module:
    return engine.seeded(
        0, lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 3))
    )


def stepper(stop_after: int | None = None, pause: float = 0.0):
    calls = 0

    def step(net, index, draws):
        nonlocal calls
        calls += 1
        if stop_after is not None and calls > stop_after:
            raise Interrupted
        time.sleep(pause)
        noise, sign = draws.randn(6), draws.randint(2, 1) * 2 - 1  # randomness must be restored too
        loss = F.cross_entropy(net(X[index] + 0.1 * sign * noise), Y[index])
        return loss, {"CE": loss.detach()}

    return step


def weights(net: nn.Module) -> torch.Tensor:
    return torch.cat([v.flatten().double() for v in net.state_dict().values()])


class Pictures(nn.Module):
    """Convolution, batch norm over pictures, and a part that no loss reaches."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 2), nn.BatchNorm2d(4, momentum=None)
        self.head = nn.Linear(4, 3)
        self.idle = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.conv(x.view(-1, 1, 2, 3))).relu().mean((2, 3)))


def main() -> None:
    role, folder, *arguments = sys.argv[1:]
    folder = Path(folder)
    if role == "slowly":
        settings = OptimiserSettings(epochs=4, batch_size=8, checkpoint_minutes=0)
        engine.train(model(dropout=0.2), stepper(pause=0.1), len(X), settings, 0, folder)
        return
    from every_method import fit  # seconds, which the other role does without

    torch.set_num_threads(1)
    with distributed.processes("cpu"):
        for name, net in (("rows", model()), ("pictures", engine.seeded(0, Pictures))):
            (folder / name).mkdir(exist_ok=True)
            trained = engine.train(net, stepper(), len(X), UNEVEN, 0, folder / name)
            engine.save(trained, folder / name / "net.safetensors", "toy")
        torch.save(weights(trained), folder / f"weights-of-rank-{distributed.rank()}.pt")
        fit(folder / "shared methods")
        for seed in ("0", "1"):
            train.main([*arguments, "--seed", seed])


if __name__ == "__main__":
    main()

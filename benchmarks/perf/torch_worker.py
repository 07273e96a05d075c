"""Training steps in PyTorch, timed on request by `peers.py`.

It runs in an interpreter that has torch, and optionally torchjd and LibMTL; this project need not
be installed there. The argument is the number of threads. It first prints the version of torch,
then reads lines "NETWORK TASKS STEP" from standard input and answers each with the seconds of one
step, or with "missing PACKAGE".
"""

import functools
import importlib
import itertools
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

BETA, EPS, LEARNING_RATE = 0.9, 1e-8, 1e-4
MLP_WIDTHS = (512, 1600, 1600, 1024)


class Block(nn.Module):
    """A basic block of ResNet-18."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.short = nn.Sequential()
        if stride > 1 or channels != width:
            conv = nn.Conv2d(channels, width, 1, stride, bias=False)
            self.short = nn.Sequential(conv, nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, C, H, W] to [N, width, H / stride, W / stride]."""
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + self.short(x))


def resnet18() -> nn.Module:
    """ResNet-18 without classifier: images to features [N, 512]."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
    ]
    channels = 64
    for width, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [Block(channels, width, stride), Block(width, width, 1)]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def mlp() -> nn.Module:
    """An MLP with tanh and five million parameters."""
    layers: list[nn.Module] = []
    for rows, columns in itertools.pairwise(MLP_WIDTHS):
        layers += [nn.Linear(rows, columns), nn.Tanh()]
    return nn.Sequential(*layers)


class Network:
    """An encoder with a linear regression head per task, a batch, and plain SGD."""

    def __init__(self, name: str, num_tasks: int) -> None:
        torch.manual_seed(0)
        self.num_tasks = num_tasks
        if name == "mlp":
            self.encoder, self.x, size = mlp(), torch.randn(256, MLP_WIDTHS[0]), MLP_WIDTHS[-1]
        else:
            self.encoder, self.x, size = resnet18(), torch.randn(8, 3, 128, 128), 512
        self.heads = nn.ModuleList(nn.Linear(size, 1, bias=False) for _ in range(num_tasks))
        self.y = torch.randn(len(self.x), num_tasks)
        self.shared = list(self.encoder.parameters())
        self.optimizer = torch.optim.SGD([*self.shared, *self.heads.parameters()], LEARNING_RATE)

    def forward(self) -> tuple[Tensor, list[Tensor]]:
        """Computes the representation and the losses."""
        z = self.encoder(self.x)
        errors = [head(z)[:, 0] - self.y[:, t] for t, head in enumerate(self.heads)]
        return z, [(error * error).mean() for error in errors]


def equal_weighting(net: Network) -> Callable[[], None]:
    """A step of equal weighting: one backward pass of the sum of the losses."""

    def step() -> None:
        net.optimizer.zero_grad()
        _, losses = net.forward()
        torch.stack(losses).sum().backward()
        net.optimizer.step()

    return step


def plain_loop(net: Network) -> Callable[[], None]:
    """A step of DB-MTL with a loop over the tasks that calls `torch.autograd.grad`."""
    average = [[torch.zeros_like(p) for p in net.shared] for _ in range(net.num_tasks)]

    def step() -> None:
        net.optimizer.zero_grad()
        _, losses = net.forward()
        for t, loss in enumerate(losses):
            parameters = [*net.shared, *net.heads[t].parameters()]
            grads = torch.autograd.grad(
                torch.log(loss + EPS), parameters, retain_graph=t + 1 < net.num_tasks
            )
            torch._foreach_lerp_(average[t], grads[: len(net.shared)], 1 - BETA)
            for p, grad in zip(net.heads[t].parameters(), grads[len(net.shared) :], strict=True):
                p.grad = grad
        norms = [torch.stack(torch._foreach_norm(rows)).norm() for rows in average]
        weights = [max(norms) / (norm + EPS) for norm in norms]
        for i, p in enumerate(net.shared):
            p.grad = sum(w * rows[i] for w, rows in zip(weights, average, strict=True))
        net.optimizer.step()

    return step


def torchjd(net: Network, chunk: int | None) -> Callable[[], None]:
    """A step of DB-MTL with TorchJD: `mtl_backward` and DB-MTL as an aggregator."""
    from torchjd import autojac
    from torchjd.aggregation import Aggregator

    class DBMTL(Aggregator):
        average: Any = None

        def forward(self, matrix: Tensor) -> Tensor:
            previous = torch.zeros_like(matrix) if self.average is None else self.average
            self.average = torch.lerp(previous, matrix, 1 - BETA)
            norms = self.average.norm(dim=1)
            return (norms.max() / (norms + EPS)) @ self.average

    aggregator = DBMTL()

    def step() -> None:
        net.optimizer.zero_grad()
        z, losses = net.forward()
        logs = [torch.log(loss + EPS) for loss in losses]
        autojac.mtl_backward(logs, features=z, parallel_chunk_size=chunk)
        autojac.jac_to_grad(net.shared, aggregator)
        net.optimizer.step()

    return step


def libmtl(net: Network) -> Callable[[], None]:
    """A step of DB-MTL with the implementation in LibMTL."""
    module = importlib.import_module("LibMTL.weighting.DB_MTL")

    class Weighting(module.DB_MTL):  # type: ignore[name-defined]
        def get_share_params(self) -> Any:
            return net.encoder.parameters()

        def zero_grad_share_params(self) -> None:
            net.encoder.zero_grad(set_to_none=False)

    weighting = Weighting()
    weighting.task_num, weighting.device = net.num_tasks, torch.device("cpu")
    weighting.rep_grad = False
    weighting.init_param()

    def step() -> None:
        net.optimizer.zero_grad(set_to_none=False)
        _, losses = net.forward()
        weighting.backward(torch.stack(losses), DB_beta=BETA, DB_beta_sigma=0)
        net.optimizer.step()

    return step


STEPS: dict[str, Callable[[Network], Callable[[], None]]] = {
    "ew": equal_weighting,
    "loop": plain_loop,
    "torchjd": functools.partial(torchjd, chunk=None),
    "torchjd-sequential": functools.partial(torchjd, chunk=1),
    "libmtl": libmtl,
}


def main() -> None:
    """Answers requests until standard input ends."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(int(sys.argv[1]))
    steps: dict[str, Callable[[], None] | str] = {}
    print(f"torch {torch.__version__}", flush=True)
    for line in sys.stdin:
        request = line.strip()
        if request not in steps:
            name, num_tasks, step = request.split()
            try:
                steps[request] = STEPS[step](Network(name, int(num_tasks)))
            except ModuleNotFoundError as error:
                steps[request] = f"missing {error.name}"
        call = steps[request]
        if isinstance(call, str):
            print(call, flush=True)
            continue
        begin = time.perf_counter()
        call()
        print(time.perf_counter() - begin, flush=True)


if __name__ == "__main__":
    main()

"""Where images come from: each function here returns one `ImageDataset`, and nothing is random.

A dataset of one's own is a function that returns an `ImageDataset`, named by ``_target_`` in a
file of the config group ``data``; the keys of that file that the framework does not know are its
arguments.
"""

from lossbench.data.sources.cifar import cifar10, cifar100
from lossbench.data.sources.dataset import ImageDataset
from lossbench.data.sources.digits import digits
from lossbench.data.sources.mnist_family import emnist, fashion_mnist, kmnist, mnist
from lossbench.data.sources.svhn import svhn

__all__ = [
    "ImageDataset",
    "cifar10",
    "cifar100",
    "digits",
    "emnist",
    "fashion_mnist",
    "kmnist",
    "mnist",
    "svhn",
]

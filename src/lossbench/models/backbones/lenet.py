"""LeNet-5 in the form that the imbalance literature trains on MNIST."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from lossbench.models.backbones.shape import image_shape

SMALLEST = 16  # pixels a side: below, the second convolution and pool have nothing left


class LeNet(nn.Module):
    """5x5 convolution, 2x2 max-pool, twice (20 and 50 channels); 500 features with a ReLU.

    The network of LeCun et al. (Proceedings of the IEEE 1998) as Caffe's MNIST example has it, with
    which Buda et al. (Neural Networks 2018) studied imbalance: no padding, no activation after
    the convolutions. With a linear head for 10 classes it has 431,080 parameters on 28x28 images
    of one channel. Weights start uniform with variance 1 / fan-in, biases at 0, as there. Images
    with a side below 16 pixels are padded with zeros to 16.

    Args:
        input_shape: channels, height, width of an image.

    Raises:
        InputError: if the samples are not images.
    """

    channels_last = True

    def __init__(self, input_shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, height, width = image_shape(input_shape, "LeNet")
        missing = [max(0, SMALLEST - side) for side in (width, height)]
        self.padding = [part for m in missing for part in (m // 2, m - m // 2)]
        self.conv1 = nn.Conv2d(channels, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        rows, columns = (((max(side, SMALLEST) - 4) // 2 - 4) // 2 for side in (height, width))
        self.out_features = 500
        self.full = nn.Linear(50 * rows * columns, self.out_features)
        for name, parameter in self.named_parameters():
            if name.endswith("weight"):
                nn.init.kaiming_uniform_(parameter, nonlinearity="linear")
            else:
                nn.init.zeros_(parameter)

    def forward(self, images: Tensor) -> Tensor:
        """Features ``(N, 500)`` of images ``(N, C, H, W)``."""
        x = F.pad(images, self.padding)
        x = F.max_pool2d(self.conv1(x), 2)
        x = F.max_pool2d(self.conv2(x), 2)
        return F.relu(self.full(x.flatten(1)))

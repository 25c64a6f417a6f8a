"""Images and labels, on their way from a source to batches.

``sources`` reads a dataset, ``split`` carves the validation images from its training images,
``imbalance`` thins what is left, ``preparation`` does these three in order, ``loader`` makes
batches and ``datamodule`` hands them to Lightning. Only the last two import torch.
"""

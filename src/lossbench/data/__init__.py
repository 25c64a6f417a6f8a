"""Samples and labels, on their way from a source to batches.

``sources`` reads a published dataset into memory, ``image_files`` finds images of one's own
(``listing`` their labels, ``decoding`` their pixels), ``table`` reads features. ``split`` carves
the validation samples from the training samples, ``imbalance`` thins what is left, ``label_noise``
makes labels wrong; ``preparation`` does these in order and asks the source for what was chosen
(``selection``). ``loader`` makes batches, with pixels from ``streaming`` where they are in files,
and ``datamodule`` hands them to Lightning. Only the last three import torch.
"""

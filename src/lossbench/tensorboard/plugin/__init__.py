"""The tab "Losses" of TensorBoard: the loss histograms of many runs laid over each other.

``plugin``    the routes, found by any ``tensorboard --logdir`` through the entry point
``arms``      which runs are seeds of the same arm, and which arms may be compared
``averages``  histograms on the shared grid, their mean over seeds, and quantiles
``static``    the page: plain ES modules, SVG drawn by hand; nothing to build, nothing to fetch
"""

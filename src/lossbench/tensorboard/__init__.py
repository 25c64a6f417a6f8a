"""What is written for TensorBoard, and how; with tensorboard's own writer, no torch.

``writer``   one run's event file: scalars, histograms of log10(loss), PR curves, images, texts
``hparams``  what the HParams tab needs: one row per arm and cell, seeds averaged
``labels``   who a run is, its seed too
``layout``   the charts of the Custom Scalars tab
``comparison_run``  what `lossbench compare` found, as a run
``figures``  loss histograms, reliability, confusion and recall as small PNG images
``board``    `lossbench board`: TensorBoard on a runs folder
``plugin``   the tab "Losses", which any TensorBoard finds where lossbench is installed
"""

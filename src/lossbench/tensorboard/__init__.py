"""What is written for TensorBoard, and how; with tensorboard's own writer, no torch.

``writer``   one run's event file: scalars, histograms of log10(loss), PR curves, images, texts
``hparams``  what the HParams tab needs: one row per arm and cell, seeds averaged
``labels``   who a run is, its seed too
``layout``   the charts of the Custom Scalars tab
``comparison_run``  what `lossbench compare` found, as a run
``figures``  loss histograms, reliability, confusion and recall as small PNG images
``board``    `lossbench board`: TensorBoard on a runs folder

tensorboard imports TensorFlow where it is installed, only to open local files: seconds per run.
Its own switch against that is a module called ``tensorboard.compat.notf``, which its wheel does
not ship, so an empty one is put in place here, unless TensorFlow is already loaded.
"""

from __future__ import annotations

import sys
import types

if "tensorflow" not in sys.modules:
    sys.modules.setdefault("tensorboard.compat.notf", types.ModuleType("tensorboard.compat.notf"))

"""The metrics of weakly supervised object localization, alone: NumPy, OpenCV, numba and pandas, and no torch.

meter        LocalizationMeter: MaxBoxAcc, Top-1 and Top-5 Loc, PxAP, from maps or boxes
boxes        maps to boxes at all thresholds at once, and their overlap
pxap         pixel-wise average precision, where there are masks
records      what a meter keeps of an image
baselines    boxes that see no image
uncertainty  intervals over images
score_files  maps, scores and masks that a method left on disk; map_files: each kind of map's file
scoring      maps on disk to a meter, on several processes
predicted_boxes  predictions that are boxes instead of maps
ranks        one meter of all processes of torch.distributed
torch_metric the meter as a torchmetrics.Metric; the extra torchmetrics
"""

from tedloc.metrics.meter import LocalizationMeter

__all__ = ["LocalizationMeter"]

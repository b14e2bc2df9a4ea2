"""Which data sets there are: name -> module with ``open(split, **settings)``."""

DATASETS = {
    "aviary": "tedloc.data.aviary",
    "cub": "tedloc.data.cub",
    "ilsvrc": "tedloc.data.ilsvrc",
    "folder": "tedloc.data.folder",
    "imagenette": "tedloc.data.imagenette",
}

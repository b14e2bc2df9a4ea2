"""Which methods there are: name -> "module:class". What follows a colon in a name is the method's variant."""

METHODS = {
    "tedloc": "tedloc.methods.tedloc:TeDLocMethod",
    "cam": "tedloc.methods.cam:LinearCAM",
    "head-cam": "tedloc.methods.head_cam:HeadCAM",
    "clip-es": "tedloc.methods.clip_es:CLIPES",
    "patch-anchor:vanilla": "tedloc.methods.patch_anchor:PatchAnchor",
    "patch-anchor:sclip": "tedloc.methods.patch_anchor:PatchAnchor",
    "patch-anchor:naclip": "tedloc.methods.patch_anchor:PatchAnchor",
}

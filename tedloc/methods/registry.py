"""Which methods there are: name -> "module:class". What follows a colon in a name is the method's variant."""

METHODS = {
    "cam": "tedloc.methods.cam:LinearCAM",
    "grad-cam": "tedloc.methods.grad_cam:GradCAM",
    "head-cam": "tedloc.methods.head_cam:HeadCAM",
    "clip-es": "tedloc.methods.clip_es:CLIPES",
    "patch-anchor:vanilla": "tedloc.methods.patch_anchor:PatchAnchor",
    "patch-anchor:sclip": "tedloc.methods.patch_anchor:PatchAnchor",
    "patch-anchor:naclip": "tedloc.methods.patch_anchor:PatchAnchor",
    "ts-cam": "tedloc.methods.ts_cam:TSCAM",
    "scm": "tedloc.methods.scm:SCM",
    "lctr": "tedloc.methods.lctr:LCTR",
    "catr": "tedloc.methods.catr:CATR",
    "ddt": "tedloc.methods.ddt:DDT",
    "psol": "tedloc.methods.psol:PSOL",
    "c2am": "tedloc.methods.c2am:C2AM",
    "c2am:test-threshold": "tedloc.methods.c2am:C2AM",
    "genpromp": "tedloc.methods.genpromp:GenPromp",
    "da-wsol": "tedloc.methods.da_wsol:DAWSOL",
    "bas": "tedloc.methods.bas:BAS",
    "dips": "tedloc.methods.dips:DiPS",
    "tedloc": "tedloc.methods.tedloc:TeDLocMethod",
}

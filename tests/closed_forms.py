"""Formulas that counted numbers are held against."""


def vit_flops(
    depth: int, width: int, patches: int, patch_values: int, hidden: int, class_token: bool = True, gated: bool = False
) -> int:
    """FLOPs of a plain ViT in closed form.

    depth blocks of width C on N tokens: 2 N C (4 C) for the projections of attention, 2 (2 N^2 C) for its two
    products, 2 N C (2 M) for an MLP of hidden width M (3 M when gated); patch embedding 2 (patches) (values)
    C.
    """
    tokens = patches + class_token
    projections = 8 * tokens * width**2
    products = 4 * tokens**2 * width
    mlp = (6 if gated else 4) * tokens * width * hidden
    return depth * (projections + products + mlp) + 2 * patches * patch_values * width

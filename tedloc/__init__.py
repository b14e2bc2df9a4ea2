"""TeD-Loc: text distillation for weakly supervised object localization, and the methods it is compared with."""

__version__ = "0.1.0"

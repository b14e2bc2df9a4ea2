"""One meter of all ranks, for evaluation in several processes of torch.distributed that each saw some of the images."""

from typing import Any

from tedloc.metrics.meter import LocalizationMeter


def over_ranks(meter: LocalizationMeter, group: Any = None) -> LocalizationMeter:
    """A meter of what the meters of all ranks saw, the same on every rank; ``meter`` itself outside torch.distributed.

    Every rank of the process group calls it, with images or without. An image that several ranks saw, as samplers pad
    the last batch, counts once. With nccl each rank has set its own device before, as for any gathering of objects.
    """
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return meter
    states: list[Any] = [None] * distributed.get_world_size(group)
    distributed.all_gather_object(states, meter.state_dict(), group=group)
    merged = LocalizationMeter.from_state(states[0])
    for state in states[1:]:
        merged.merge(LocalizationMeter.from_state(state))
    return merged

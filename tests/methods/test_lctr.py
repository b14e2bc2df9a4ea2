"""LCTR passes attention on between related patches, and its head depends on the image."""

import torch
from synthetic_attention import random_seen
from torch.nn import functional as F

from tedloc.methods.lctr import EXPERTS, CueDigging, LCTRNet, relational_attention

DIM, CLASSES = 16, 6


def head() -> CueDigging:
    torch.manual_seed(0)
    return CueDigging(DIM, CLASSES).eval()


def test_the_relational_map_reaches_patches_that_attended_patches_look_at():
    seen = random_seen(images=1)
    attended, related, unrelated = 1 + 33, 1 + 34, 1 + 88
    for weights in seen.attention:
        weights[:, :, 0] = 0
        weights[:, :, 0, attended] = 1  # the class token looks at one patch only
        weights[:, :, attended] = 0
        weights[:, :, attended, [attended, related]] = 0.5  # which looks at itself and at another
    plain, relational = seen.cls_to_patches().mean((1, 2)).flatten(), relational_attention(seen).flatten()
    assert plain[related - 1] == 0 and relational[related - 1] == relational[attended - 1] > 0
    assert relational[unrelated - 1] == 0


def test_without_relations_it_is_the_class_tokens_attention():
    seen = random_seen(images=2)
    for weights in seen.attention:
        weights[:, :, 1:] = torch.eye(101)[1:]  # every patch looks at itself
    plain = seen.cls_to_patches().mean((1, 2))
    assert torch.allclose(100 * relational_attention(seen), plain, atol=1e-6)


def test_the_routing_changes_with_the_image_and_what_was_attended_is_weakened_in_it():
    seen, cues = random_seen(images=3), head()
    nothing, everything = torch.zeros(3, 10, 10), torch.ones(3, 10, 10)
    routing = cues.routing(seen.tokens, nothing)
    assert routing.shape == (3, EXPERTS) and ((0 < routing) & (routing < 1)).all()
    assert (routing.std(0) > 1e-4).all()
    # all attended: nothing is left of the images, and they are routed alike
    assert torch.allclose(cues.routing(seen.tokens, everything).std(0), torch.zeros(EXPERTS), atol=1e-6)


def test_the_patch_that_the_class_token_looks_at_most_is_erased_and_the_least_attended_one_is_kept():
    """The softmax's own weights are about 1/100 each, so that 1 - a would erase nothing."""
    seen, net, given = random_seen(images=2), LCTRNet(torch.nn.Identity(), head()), []
    net.head.cues.register_forward_hook(lambda module, inputs, output: given.append(inputs[0]))
    net.couple(seen)
    kept = (given[0] / seen.tokens).mean(1).flatten(1)  # 1 - a
    attention = seen.cls_to_patches().mean((1, 2)).flatten(1)
    assert attention.max() < 0.1
    assert torch.allclose(kept.gather(1, attention.argmax(1)[:, None]), torch.zeros(2, 1), atol=1e-5)
    assert torch.allclose(kept.gather(1, attention.argmin(1)[:, None]), torch.ones(2, 1), atol=1e-5)


def test_mixing_the_experts_maps_is_mixing_their_kernels():
    seen, cues = random_seen(images=3), head()
    attention = seen.cls_to_patches().mean((1, 2))
    found = cues(seen.tokens, attention)
    kernels = cues.experts.weight.view(EXPERTS, CLASSES, DIM, 3, 3)
    biases = cues.experts.bias.view(EXPERTS, CLASSES)
    for image, routing in enumerate(cues.routing(seen.tokens, attention)):
        kernel, bias = torch.einsum("e,ekcxy->kcxy", routing, kernels), routing @ biases
        mixed = F.conv2d(seen.tokens[image : image + 1], kernel, bias, padding=1)
        assert torch.allclose(found[image], mixed[0], atol=1e-5)


def test_the_map_keeps_only_evidence_for_the_class_and_the_scores_all():
    found = LCTRNet(torch.nn.Identity(), head()).couple(random_seen())
    assert (found.of(torch.tensor([0, 1, 2])) >= 0).all() and (found.scores < 0).any()

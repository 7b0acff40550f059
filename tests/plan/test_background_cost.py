"""Costs of what runs in the background: collectives that are started, in several fusions, or on another core."""

from stepjax.plan.cost import module_cost
from stepjax.plan.hlo_text import parse


def test_a_computation_of_another_core():
    text = """HloModule other

%there (p: f32[64]) -> f32[256] {
  %p = f32[64] parameter(0)
  ROOT %g = f32[256] all-gather(%p), channel_id=9, replica_groups=[1,4]<=[4], dimensions={0}
}, execution_thread="sparsecore"

ENTRY %main (x: f32[64]) -> f32[256] {
  %x = f32[64] parameter(0)
  %s = ((f32[64]), f32[256]) async-start(%x), async_execution_thread="sparsecore", calls=%there
  ROOT %d = f32[256] async-done(%s)
}
"""
    found = module_cost(parse(text)).collectives["all-gather"]
    assert (found.count, found.bytes) == (1, 3 * 64 * 4)


def test_a_collective_that_runs_beside_several_fusions_is_counted_once():
    inside = """%NAME (a: f32[64], g: f32[256], v: f32[16]) -> (f32[16], f32[64], f32[256]) {
  %a = f32[64] parameter(0)
  %g = f32[256] parameter(1)
  %v = f32[16] parameter(2)
  %n = f32[16] negate(%v)
  %gather = f32[256] all-gather(%a), channel_id=9, replica_groups=[1,4]<=[4], dimensions={0}
  ROOT %t = (f32[16], f32[64], f32[256]) tuple(%n, %a, %gather)
}

"""
    text = f"""HloModule beside

{inside.replace("NAME", "first")}{inside.replace("NAME", "second")}ENTRY %main (a: f32[64], v: f32[16]) -> f32[256] {{
  %a = f32[64] parameter(0)
  %v = f32[16] parameter(1)
  %b = f32[256] custom-call(), custom_call_target="AllocateBuffer"
  %f = (f32[16], f32[64], f32[256]) fusion(%a, %b, %v), kind=kLoop, calls=%first
  %w = f32[16] get-tuple-element(%f), index=0
  %g = f32[256] get-tuple-element(%f), index=2
  %s = (f32[16], f32[64], f32[256]) fusion(%a, %g, %w), kind=kLoop, calls=%second
  ROOT %r = f32[256] get-tuple-element(%s), index=2
}}
"""
    cost = module_cost(parse(text))
    assert (cost.collectives["all-gather"].count, cost.collective_bytes) == (1, 4 * (64 + 256))
    assert cost.bytes == cost.collective_bytes + 2 * 4 * (16 + 16), "beside it two negations"


def test_what_a_fusion_inside_another_hands_on_is_read_by_those_who_read_it():
    text = """HloModule handed

%inner (p: f32[64], q: f32[16]) -> (f32[16], f32[64]) {
  %p = f32[64] parameter(0)
  %q = f32[16] parameter(1)
  %n = f32[16] negate(%q)
  ROOT %t = (f32[16], f32[64]) tuple(%n, %p)
}

%outer (x: f32[64], y: f32[16]) -> f32[64] {
  %x = f32[64] parameter(0)
  %y = f32[16] parameter(1)
  %f = (f32[16], f32[64]) fusion(%x, %y), kind=kLoop, calls=%inner
  %g = f32[64] get-tuple-element(%f), index=1
  ROOT %e = f32[64] exponential(%g)
}

ENTRY %main (x: f32[64], y: f32[16]) -> f32[64] {
  %x = f32[64] parameter(0)
  %y = f32[16] parameter(1)
  ROOT %o = f32[64] fusion(%x, %y), kind=kLoop, calls=%outer
}
"""
    assert module_cost(parse(text)).bytes == 4 * (64 + 16 + 64)


def test_a_collective_in_the_background_of_each_turn_is_counted_each_turn():
    text = """HloModule turns

%fused (a: f32[64]) -> f32[256] {
  %a = f32[64] parameter(0)
  ROOT %g = f32[256] all-gather(%a), channel_id=9, replica_groups=[1,4]<=[4], dimensions={0}
}

%body (s: (s32[], f32[64])) -> (s32[], f32[64]) {
  %s = (s32[], f32[64]) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %a = f32[64] get-tuple-element(%s), index=1
  %f = f32[256] fusion(%a), kind=kLoop, calls=%fused
  ROOT %t = (s32[], f32[64]) tuple(%i, %a)
}

%condition (s: (s32[], f32[64])) -> pred[] {
  %s = (s32[], f32[64]) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %n = s32[] constant(5)
  ROOT %lt = pred[] compare(%i, %n), direction=LT
}

%first (a: f32[64]) -> f32[256] {
  %a = f32[64] parameter(0)
  ROOT %g = f32[256] all-gather(%a), channel_id=9, replica_groups=[1,4]<=[4], dimensions={0}
}

ENTRY %main (s: (s32[], f32[64])) -> (s32[], f32[64]) {
  %s = (s32[], f32[64]) parameter(0)
  %a = f32[64] get-tuple-element(%s), index=1
  %f = f32[256] fusion(%a), kind=kLoop, calls=%first
  ROOT %w = (s32[], f32[64]) while(%s), condition=%condition, body=%body
}
"""
    cost = module_cost(parse(text))
    assert cost.collectives["all-gather"].count == 6 and cost.collective_bytes == 6 * 4 * (64 + 256)


def test_a_started_collective_reads_and_writes_once():
    text = """ENTRY %main (a: f32[64]) -> f32[256] {
  %a = f32[64] parameter(0)
  %s = (f32[64], f32[256]) all-gather-start(%a), channel_id=1, replica_groups=[1,4]<=[4], dimensions={0}
  ROOT %d = f32[256] all-gather-done(%s)
}
"""
    assert module_cost(parse(text)).bytes == 4 * (64 + 256)

"""Data sets of the mixed-model literature, with source and units."""

from skmixed.datasets._loaders import (
    load_cake,
    load_cbpp,
    load_dyestuff,
    load_dyestuff2,
    load_early,
    load_grouseticks,
    load_insteval,
    load_machines,
    load_pastes,
    load_penicillin,
    load_scotssec,
    load_sleepstudy,
    load_verbagg,
)

__all__ = [
    "load_cake",
    "load_cbpp",
    "load_dyestuff",
    "load_dyestuff2",
    "load_early",
    "load_grouseticks",
    "load_insteval",
    "load_machines",
    "load_pastes",
    "load_penicillin",
    "load_scotssec",
    "load_sleepstudy",
    "load_verbagg",
]

"""Hybrid balancing: methods that balance both losses and gradients."""

from dbmtl_jax.hybrid_balancing._db_mtl import db_mtl
from dbmtl_jax.hybrid_balancing._imtl import imtl

__all__ = ["db_mtl", "imtl"]

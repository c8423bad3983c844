"""Entries in an etcd cluster, which many supervisords share."""

from supervisor_cache.engines.etcd.engine import EtcdEngine
from supervisor_cache.engines.etcd.options import Options

__all__ = ["EtcdEngine", "Options"]

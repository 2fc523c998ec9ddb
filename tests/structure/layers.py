"""The one table of layers, lowest first; names on one line are siblings.

A layer includes only itself and what stands on lines above its own here, never a
sibling.
"""
LAYERS = [
    ["base"],
    ["loop"],
    ["media", "async_map"],
    ["tmem"],
    ["journal"],
    ["store"],
    ["cache"],
    ["map", "anon", "blob", "log"],
    ["volume"],
    ["serve"],
    ["cli"],
]

# Whose face a public header is. The header of all faces belongs to no layer.
PUBLIC_HEADERS = {"error.h": "base", "loop.h": "loop", "cache.h": "cache", "map.h": "map", "store.h": "blob",
                  "blob.h": "blob", "mdc.h": "blob", "log.h": "log", "tmem.h": "tmem", "tmem_store.h": "blob", "anon.h": "anon",
                  "quire.h": None,
                  "async_map.h": "async_map", "tmem_service.h": "serve", "nbd.h": "serve", "ublk.h": "serve", "volume.h": "volume",
                  "tmem_memcached.h": "serve"}

# Folders that see the library as any program does: public headers only.
USERS = ["src/cli", "examples", "bench"]

# But for these: a program's file, and the one header inside that it is about.
INSIDERS = {"bench/replay_quire.c": "src/base/policy.h"}


def rank(layer):
    """Position in the table, or None for a layer that it lacks."""
    for position, siblings in enumerate(LAYERS):
        if layer in siblings:
            return position
    return None

"""Takes out of an unpacked kernel package what a guest needs: the image, and modules in load order."""
import lzma
import re
import shutil
import struct

# In the order in which they are wanted; what they depend on comes before them. A kernel may have
# one built in, or lack one of the second list.
NEEDED = ["virtio_pci", "virtio_console", "virtio_blk", "crc32c_generic", "nfit", "nd_pmem", "ext4", "xfs"]
WELCOME = ["crc32c_intel", "dax_pmem", "device_dax", "loop", "nbd", "ublk_drv", "dm_mod", "dm_log_writes", "dm_flakey"]


def pick(tree, to):
    """tree: the package. to: gets image and modules/NN-name.ko, NN the order."""
    modules = next((tree / "lib" / "modules").iterdir())
    builtin = {module_name(line) for line in (modules / "modules.builtin").read_text().splitlines()}
    files = {module_name(path.name): path for path in modules.rglob("*.ko*")}

    order = []
    for name in NEEDED + [name for name in WELCOME if name in files]:
        add(name, files, builtin, order)

    shutil.rmtree(to, ignore_errors=True)
    (to / "modules").mkdir(parents=True)
    (to / "image").write_bytes(uncompressed(next((tree / "boot").glob("vmlinuz-*")).read_bytes()))
    for number, (name, data) in enumerate(order):
        (to / "modules" / f"{number:02}-{name}.ko").write_bytes(data)


def uncompressed(image):
    """The ELF kernel inside a bzImage, which QEMU enters directly (PVH). For an emulated processor
    uncompressing is a third of the way to user space. What isn't known here boots as it is."""
    n_setup_sectors = image[0x1f1] or 4
    offset, n_bytes = struct.unpack_from("<II", image, 0x248)
    payload = image[(n_setup_sectors + 1) * 512 + offset:][:n_bytes]
    if not payload.startswith(b"\xfd7zXZ\0"):
        return image
    inside = lzma.LZMADecompressor().decompress(payload)
    return inside if inside.startswith(b"\x7fELF") else image


def add(name, files, builtin, order):
    if name in builtin or any(name == known for known, _ in order):
        return
    data = contents(files[name])
    for dependency in depends(data):
        add(dependency, files, builtin, order)
    order.append((name, data))


def depends(data):
    """A module names what it needs in its section .modinfo: depmod has nothing else to go by."""
    found = re.search(rb"\0depends=([^\0]*)\0", data)
    return [module_name(name) for name in found.group(1).decode().split(",") if name] if found else []


def contents(path):
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def module_name(path):
    """"kernel/fs/dm-mod.ko.xz" → "dm_mod" """
    return re.sub(r"\.ko(\.\w+)?$", "", path.split("/")[-1]).replace("-", "_")

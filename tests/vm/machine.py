"""The emulated machine: one QEMU process, and the socket that its guest's frames come through."""
import os
import pathlib
import signal
import socket
import subprocess

LABEL_BYTES = 128 * 1024


class Machine:
    """Started by the constructor; end() in any case. directory: gets console.log and qemu.log."""

    def __init__(self, cache, directory, kernel, initrd, nvdimm=None, persistence=None, disk=None, raws=(), memory="768M", writes=None):
        self.console = directory / "console.log"
        self.log = directory / "qemu.log"
        self.killed = False
        self.socket, far = socket.socketpair()
        command = [*self._command(cache, kernel, initrd, memory), "-serial", f"file:{self.console}",
                   *self._port(far.fileno()), *self._nvdimm(nvdimm, persistence), *self._disk(disk),
                   *self._raws(raws, writes)]
        with far, open(self.log, "wb") as log:
            # Nor does QEMU outlive us, if we are killed for taking too long.
            self.process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, env=self._environment(cache), pass_fds=[far.fileno()],
                                            start_new_session=True)

    @staticmethod
    def _environment(cache):
        library = pathlib.Path("usr/lib/x86_64-linux-gnu")
        search = [cache / "tools" / library, cache / "tools" / "lib/x86_64-linux-gnu"]
        return dict(os.environ, LD_LIBRARY_PATH=":".join(map(str, search)),
                    QEMU_MODULE_DIR=str(search[0] / "qemu"))

    def _command(self, cache, kernel, initrd, memory):
        """Two emulated processors on two threads, without CMPXCHG16B, at which QEMU 7.2 loses flags (a panic
        of Linux 6.12). panic=-1 with -no-reboot: a panic ends QEMU. What the kernel does at a boot that no test is
        about is left out: a fifth of the way to user space."""
        share = cache / "tools/usr/share"
        return [str(cache / "tools/usr/bin/qemu-system-x86_64"), "-L", str(share / "qemu"), "-L", str(share / "seabios"),
                "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-nic", "none",
                "-accel", "tcg,thread=multi,tb-size=256", "-cpu", "max,cx16=off", "-smp", "2",
                "-m", f"{memory},slots=2,maxmem=64G",
                "-kernel", str(kernel / "image"), "-initrd", str(initrd),
                "-append", "console=ttyS0 panic=-1 oops=panic loglevel=4 tsc=reliable no_timer_check "
                           "mitigations=off random.trust_cpu=on "
                           "nokaslr cryptomgr.notests rcupdate.rcu_expedited=1 audit=0 lsm= rdinit=/init"]

    @staticmethod
    def _port(descriptor):
        return ["-device", "virtio-serial-pci", "-chardev", f"socket,id=host,fd={descriptor}",
                "-device", "virtserialport,chardev=host,name=quire"]

    @staticmethod
    def _nvdimm(file, persistence):
        """The file is mapped shared: what the guest has stored is in it, whatever becomes of QEMU."""
        if file is None:
            return ["-machine", "pc"]
        size = file.stat().st_size
        domain = f",nvdimm-persistence={persistence}" if persistence else ""
        return ["-machine", f"pc,nvdimm=on{domain}",
                "-object", f"memory-backend-file,id=nvdimm0,share=on,mem-path={file},size={size}",
                "-device", f"nvdimm,id=nv0,memdev=nvdimm0,label-size={LABEL_BYTES}"]

    @staticmethod
    def _disk(file):
        """cache=unsafe: only QEMU is ever killed, never this machine, so what QEMU has written stays."""
        if file is None:
            return []
        return ["-drive", f"if=none,id=disk0,format=raw,cache=unsafe,file={file}", "-device", "virtio-blk-pci,drive=disk0"]

    @staticmethod
    def _raws(files, writes):
        """The guest knows them by their serial numbers, and is told of all errors. writes: where QEMU logs what the first of them is given, as it is given: two writes side by side
        stay two. (Zeros it must be given as bytes: what it logs of "write zeroes" in this version can stand within another entry.)"""
        drives = [["-drive", f"if=none,id=raw{number},format=raw,cache=unsafe,discard=unmap,werror=report,file={file}",
                   "-device", f"virtio-blk-pci,drive=raw{number},serial=raw-{number}"] for number, file in enumerate(files)]
        if writes is not None:
            drives[0] = ["-blockdev", f"driver=blklogwrites,node-name=raw0,discard=unmap,"
                         f"file.driver=file,file.filename={files[0]},file.discard=unmap,file.cache.no-flush=on,"
                         f"log.driver=file,log.filename={writes},log.cache.no-flush=on",
                         "-device", "virtio-blk-pci,drive=raw0,serial=raw-0,write-zeroes=off,request-merging=off"]
        return [word for drive in drives for word in drive]

    def kill(self):
        """As if the power failed, as far as QEMU goes: SIGKILL."""
        self.killed = True
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)

    def end(self):
        """Exit status of QEMU; negative if a signal ended it."""
        if self.process.poll() is None:
            self.process.kill()
        self.socket.close()
        return self.process.wait()

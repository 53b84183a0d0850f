#!/usr/bin/env python3
"""Compiles the kernels with NVRTC, without a GPU: compile_cuda.py LIBNVRTC OUTPUT-FOLDER

For compute_80 and compute_90 to PTX, for sm_80 and sm_90 down to machine code, where ptxas says how
many registers each kernel takes and whether any spill. Both programs, with the options that the
backend uses. Exit status 1 if something does not compile, if a kernel spills or is missing, or if
the PTX holds approximate arithmetic or flushes denormals.
"""

import ctypes
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
KERNELS = os.path.join(ROOT, "Sources", "GPUBackend", "Kernels")


def expanded(name):
    """A program's text with its includes in place, as the backend hands it over."""
    with open(os.path.join(KERNELS, name), encoding="utf-8") as f:
        lines = f.read().split("\n")
    return "\n".join(
        expanded(line[len('#include "'):-1]) if line.startswith('#include "') else line for line in lines)


def compile_program(nvrtc, source, name, options):
    """Image and log."""
    program = ctypes.c_void_p()
    text = source.encode()
    if nvrtc.nvrtcCreateProgram(ctypes.byref(program), text, name.encode(), 0, None, None):
        raise SystemExit("nvrtcCreateProgram failed")
    values = (ctypes.c_char_p * len(options))(*[o.encode() for o in options])
    status = nvrtc.nvrtcCompileProgram(program, len(options), values)
    size = ctypes.c_size_t()
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value + 1)
    nvrtc.nvrtcGetProgramLog(program, log)
    log = log.value.decode()
    if status:
        raise SystemExit(f"{name} {options[0]} does not compile:\n{log}")
    kind = "CUBIN" if "=sm_" in options[0] else "PTX"
    getattr(nvrtc, f"nvrtcGet{kind}Size")(program, ctypes.byref(size))
    image = ctypes.create_string_buffer(size.value)
    getattr(nvrtc, f"nvrtcGet{kind}")(program, image)
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return image.raw, log


def main():
    if len(sys.argv) != 3:
        print(__doc__.strip().split("\n")[0], file=sys.stderr)
        return 64
    nvrtc = ctypes.CDLL(sys.argv[1])
    major, minor = ctypes.c_int(), ctypes.c_int()
    nvrtc.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    failures = 0
    for program in ["single", "double"]:
        source = expanded(f"{program}.h")
        wanted = set(re.findall(r"^KERNEL\(\w+\) (\w+)\(", source, re.M))
        for architecture in ["compute_80", "compute_90", "sm_80", "sm_90"]:
            options = [f"--gpu-architecture={architecture}", "--std=c++17", "--fmad=false"]
            if architecture.startswith("sm_"):
                options.append("--ptxas-options=-v")
            image, log = compile_program(nvrtc, source, f"{program}.h", options)
            folder = os.path.join(sys.argv[2], architecture)
            os.makedirs(folder, exist_ok=True)
            ending = "cubin" if architecture.startswith("sm_") else "ptx"
            with open(os.path.join(folder, f"{program}.{ending}"), "wb") as f:
                f.write(image.rstrip(b"\0") if ending == "ptx" else image)
            if ending == "ptx":
                text = image.decode(errors="replace")
                found = set(re.findall(r"\.entry (\w+)\(", text))
                loose = set(re.findall(r"\b\w+(?:\.\w+)*\.(?:approx|ftz)\b[\w.]*", text))
                if found != wanted or loose:
                    print(f"{program} {architecture}: kernels {found ^ wanted}, loose arithmetic {loose}")
                    failures += 1
                else:
                    print(f"{program} {architecture}: {len(found)} kernels")
            else:
                registers = [int(n) for n in re.findall(r"Used (\d+) registers", log)]
                spills = [int(n) for n in re.findall(r"(\d+) bytes spill", log)]
                if len(registers) != len(wanted) or len(spills) != 2 * len(wanted) or any(spills):
                    print(f"{program} {architecture}: spills {spills}\n{log}")
                    failures += 1
                else:
                    print(f"{program} {architecture}: {len(registers)} kernels, {min(registers)} to "
                          f"{max(registers)} registers, no spills")
    print(f"NVRTC {major.value}.{minor.value}: {'all is well' if not failures else 'FAILED'}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""Modbus RTU as bytes in, bytes out: requests, answers, their checksum, values out of registers.

Duty: pure codec of functions 1..4. Source: MODBUS over serial line specification V1.02, application protocol V1.1b3.
Invariants: an answer counts only for the request it answers (slave, function, length) and with a right CRC; noise before it is skipped.
"""

import struct

from edgeheal.adapters.sensors.spec import Register

ANSWER_MOST = 256


def crc16(data: bytes) -> int:
    """CRC-16/MODBUS (polynomial 0xA001 reflected, start 0xFFFF)."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0xA001 if crc & 1 else 0)
    return crc


def sealed(body: bytes) -> bytes:
    """`body` with its CRC, low byte first."""
    return body + struct.pack("<H", crc16(body))


def request(register: Register) -> bytes:
    """The frame that asks for one value."""
    return sealed(struct.pack(">BBHH", register.slave, register.function, register.address, register.words))


def answer(register: Register, data: bytes) -> tuple[float | None, bool]:
    """(value, whether the answer is complete). (None, True): the slave refuses; (None, False): not there yet."""
    payload = 1 if register.function in (1, 2) else 2 * register.words
    for at in range(len(data)):
        if data[at] != register.slave:
            continue
        frame = data[at : at + 5 + payload]
        if len(frame) >= 5 and frame[1] == register.function | 0x80 and sealed(frame[:3]) == frame[:5]:
            return None, True
        if len(frame) == 5 + payload and frame[1] == register.function and frame[2] == payload and sealed(frame[:-2]) == frame:
            return _value(register, frame[3:-2]), True
    return None, False


def _value(register: Register, raw: bytes) -> float | None:
    if register.kind == "bit":
        return float(raw[0] & 1)
    if register.swapped and len(raw) == 4:
        raw = raw[2:] + raw[:2]
    form = {"u16": ">H", "i16": ">h", "u32": ">I", "i32": ">i", "f32": ">f"}[register.kind]
    if len(raw) != struct.calcsize(form):
        return None
    value: float = struct.unpack(form, raw)[0]
    return float(value) if abs(value) < float("inf") else None

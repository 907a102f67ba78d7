"""The checksum that TFRecord files hold of each record's length and data: CRC-32C, masked."""

import functools

import numpy as np

from dgn_tf.compiled import kernel

_POLYNOMIAL = 0x82F63B78  # Castagnoli's, bits reversed
_MASK = 0xA282EAD8  # a checksum of data that hold checksums would be a weak one


@functools.cache
def _tables() -> np.ndarray:
    """[8, 256] uint32: row k is what a byte does to the checksum k bytes later."""
    tables = np.zeros([8, 256], np.uint32)
    row = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        row = np.where(row & 1, (row >> 1) ^ np.uint32(_POLYNOMIAL), row >> 1)
    tables[0] = row
    for k in range(1, 8):
        tables[k] = (tables[k - 1] >> 8) ^ tables[0, tables[k - 1] & 0xFF]
    return tables


@kernel
def _crc32c(data, tables):
    """CRC-32C of data [N] uint8: eight bytes at a time, the rest one by one."""
    byte = np.uint32(0xFF)
    crc = np.uint32(0xFFFFFFFF)
    eights = len(data) // 8 * 8
    for i in range(0, eights, 8):
        low = np.uint32(data[i]) | np.uint32(data[i + 1]) << np.uint32(8)
        high = np.uint32(data[i + 2]) | np.uint32(data[i + 3]) << np.uint32(8)
        crc = np.uint32(crc ^ low ^ (high << np.uint32(16)))
        first = tables[7, crc & byte] ^ tables[6, (crc >> np.uint32(8)) & byte]
        second = tables[5, (crc >> np.uint32(16)) & byte] ^ tables[4, crc >> np.uint32(24)]
        third = tables[3, data[i + 4]] ^ tables[2, data[i + 5]]
        crc = first ^ second ^ third ^ tables[1, data[i + 6]] ^ tables[0, data[i + 7]]
    for i in range(eights, len(data)):
        crc = tables[0, (crc ^ np.uint32(data[i])) & byte] ^ (crc >> np.uint32(8))
    return crc ^ np.uint32(0xFFFFFFFF)


def masked_crc32c(data: bytes) -> int:
    """The masked CRC-32C of `data`, as it stands behind them in a TFRecord file."""
    crc = int(_crc32c(np.frombuffer(data, np.uint8), _tables()))
    return ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF

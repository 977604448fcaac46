package verify

import (
	"encoding/binary"
	"math/bits"
)

// sipHash is SipHash-c-d (Aumasson and Bernstein, 2012) of b with the 128-bit key
// whose upper half is zero, as _imp.source_hash computes it.
func sipHash(c, d int, key uint64, b []byte) uint64 {
	s := sipState{key ^ 0x736f6d6570736575, 0x646f72616e646f6d, key ^ 0x6c7967656e657261, 0x7465646279746573}
	last := uint64(len(b)) << 56
	for ; len(b) >= 8; b = b[8:] {
		s.mix(c, binary.LittleEndian.Uint64(b))
	}
	for i, x := range b {
		last |= uint64(x) << (8 * i)
	}
	s.mix(c, last)
	s[2] ^= 0xff
	s.rounds(d)
	return s[0] ^ s[1] ^ s[2] ^ s[3]
}

type sipState [4]uint64

func (s *sipState) mix(rounds int, m uint64) {
	s[3] ^= m
	s.rounds(rounds)
	s[0] ^= m
}

func (s *sipState) rounds(n int) {
	for range n {
		s[0] += s[1]
		s[2] += s[3]
		s[1] = bits.RotateLeft64(s[1], 13) ^ s[0]
		s[3] = bits.RotateLeft64(s[3], 16) ^ s[2]
		s[0] = bits.RotateLeft64(s[0], 32)
		s[2] += s[1]
		s[0] += s[3]
		s[1] = bits.RotateLeft64(s[1], 17) ^ s[2]
		s[3] = bits.RotateLeft64(s[3], 21) ^ s[0]
		s[2] = bits.RotateLeft64(s[2], 32)
	}
}

//go:build linux && !amd64

package confine

// refusedHere are older names of refused calls that newer architectures lack.
var refusedHere []uint32

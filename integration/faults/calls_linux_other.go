//go:build linux && !amd64

package faults

// changersHere are older calls that newer architectures lack.
var changersHere map[uint32]changer

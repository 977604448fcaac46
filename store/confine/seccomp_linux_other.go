//go:build linux && !amd64

package confine

// attributesHere are older names of these calls that newer architectures lack.
var attributesHere []uint32

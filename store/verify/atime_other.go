//go:build !linux

package verify

// noAtime is nothing where that can't be asked for.
const noAtime = 0

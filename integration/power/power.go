// Package power takes the power away from a real file system, at any moment.
//
// A [Disk] is a loop device over a file that a FUSE server of this package
// serves. The server keeps the content in memory and notes all that reaches it in
// a [Log]: each write, and each barrier, which is what a FLUSH of the device
// becomes. When a program has run on a file system of the disk, [Log.Before] and
// [Log.Torn] tell what the disk could hold if the power had gone at some moment of
// the run: what came before the last barrier is there, and of what came after
// it any part may be. Such an [Image] makes a disk again, to be mounted, its
// journal replayed, and looked at.
//
// A block of 4,096 bytes is written whole or not at all, and a write after a barrier never
// reaches the medium before what the barrier covers: that much a disk promises
// that tells the truth. Disks that lie about a FLUSH are not the concern of the
// package, but [Log.Deaf] makes one, as proof that the barriers count.
//
// Nothing is written to the machine's own disk. Linux only, and as root: loop
// devices are.
package power

package materialize

// A system is what the operating system does here. Tests put in one that fails.
type system struct {
	// clone makes the new file name in the directory dir share the bytes of the
	// open file from, and gives it the mode, less the umask.
	clone func(from, dir int, name string, mode uint32) error

	// keepsMode says that a clone has the mode of its original instead.
	keepsMode bool

	// link makes name in the directory dir a hard link to the file old.
	link func(old string, dir int, name string) error

	// copyRange has the kernel copy up to n bytes from one file's position to the
	// other's.
	copyRange func(to, from int, n int64) (int64, error)

	// direct has what is written to an open file from now on pass by the page
	// cache, or not.
	direct func(fd int, on bool) error

	// exchange exchanges two directories at once.
	exchange func(a, b string) error

	// renameNew renames a to b, which must not be there.
	renameNew func(a, b string) error

	// rename is [os.Rename].
	rename func(a, b string) error
}

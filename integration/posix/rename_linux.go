package posix

import (
	"fmt"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	noReplace = unix.RENAME_NOREPLACE
	exchange  = unix.RENAME_EXCHANGE
)

var renaming = []Case{
	{Name: "rename/a file", Try: func(c *C) {
		ino := c.lstat("file").Ino
		c.changes(func() { c.rename("file", "dir/moved") }, map[string]change{"": content, "dir": content})
		c.gone("file")
		c.holds("dir/moved", text)
		equal(c, "ino", c.lstat("dir/moved").Ino, ino)
		c.lists("dir", "inner", "moved", "sub")
		c.lists("", "big", "dir", "full", "other")
	}},
	{Name: "rename/a file within its folder, often", Try: func(c *C) {
		ino := c.lstat("file").Ino
		last := "file"
		for i := range 20 {
			name := fmt.Sprint("name", i%3)
			c.rename(last, name)
			last = name
		}
		c.holds(last, text)
		equal(c, "ino", c.lstat(last).Ino, ino)
		c.rename(last, "file")
		c.holds("file", text)
		c.lists("", "big", "dir", "file", "full", "other")
	}},
	{Name: "rename/keeps content, mode and mtime", Try: func(c *C) {
		c.chmod("file", 0o751)
		old := c.stamps("file")
		c.tick()
		c.rename("file", "dir/moved")
		equal(c, "the mode", c.mode("dir/moved"), "0751")
		equal(c, "mtime", c.stamps("dir/moved").mtime, old.mtime)
	}},
	{Name: "rename/over a file", Try: func(c *C) {
		ino := c.lstat("file").Ino
		c.rename("file", "dir/inner")
		c.gone("file")
		c.holds("dir/inner", text)
		equal(c, "ino", c.lstat("dir/inner").Ino, ino)
		c.lists("dir", "inner", "sub")
	}},
	{Name: "rename/over a file that has another name", Try: func(c *C) {
		c.link("other", "second")
		c.rename("file", "other")
		c.holds("second", "other "+text)
		equal(c, "nlink", uint64(c.lstat("second").Nlink), 1)
		c.holds("other", text)
	}},
	{Name: "rename/over another name of the same file", Try: func(c *C) {
		c.link("file", "second")
		c.rename("file", "second") // does nothing at all, says POSIX
		c.holds("file", text)
		c.holds("second", text)
		equal(c, "nlink", uint64(c.lstat("file").Nlink), 2)
	}},
	{Name: "rename/to itself", Try: func(c *C) {
		c.rename("file", "file")
		c.rename("dir", "dir")
		c.holds("file", text)
		c.holds("dir/inner", "inner "+text)
	}},
	{Name: "rename/away, and a new file by the name", Try: func(c *C) {
		c.rename("file", "kept")
		c.write("file", "new")
		c.holds("kept", text)
		c.holds("file", "new")
		c.rename("kept", "file")
		c.holds("file", text)
		c.gone("kept")
	}},
	{Name: "rename/two files round", Try: func(c *C) {
		c.rename("file", "tmp")
		c.rename("other", "file")
		c.rename("tmp", "other")
		c.holds("file", "other "+text)
		c.holds("other", text)
	}},
	{Name: "rename/an edited file over its origin, as editors do", Try: func(c *C) {
		c.write("file.tmp", "edited")
		c.rename("file", "file~")
		c.rename("file.tmp", "file")
		c.holds("file", "edited")
		c.holds("file~", text)
		c.remove("file~")
		c.holds("file", "edited")
	}},
	{Name: "rename/an open file", Try: func(c *C) {
		fd := c.open("file", unix.O_RDWR, 0)
		c.rename("file", "dir/moved")
		c.writeAt(fd, "THE", 0)
		c.holds("dir/moved", "THE"+text[3:])
		c.write("file", "new")
		equal(c, "what is read", c.readAt(fd, 3, 0), "THE")
	}},
	{Name: "rename/a folder", Try: func(c *C) {
		ino := c.lstat("dir").Ino
		c.changes(func() { c.rename("dir", "moved") }, map[string]change{"": content})
		c.gone("dir")
		c.gone("dir/inner")
		equal(c, "ino", c.lstat("moved").Ino, ino)
		c.holds("moved/inner", "inner "+text)
		c.holds("moved/sub/deep", "deep "+text)
		c.lists("moved", "inner", "sub")
	}},
	{Name: "rename/a folder, then change what is in it", Try: func(c *C) {
		c.rename("dir", "moved")
		c.write("moved/inner", "changed")
		c.write("moved/sub/new", "new")
		c.remove("moved/sub/deep")
		c.lists("moved/sub", "new")
		c.rename("moved", "full/again")
		c.holds("full/again/inner", "changed")
		c.lists("full/again/sub", "new")
		c.mkdir("dir")
		c.lists("dir")
		c.gone("dir/inner")
		c.ok(unix.Rmdir(c.path("dir")))
		c.rename("full/again", "dir")
		c.holds("dir/inner", "changed")
		c.gone("dir/sub/deep")
	}},
	{Name: "rename/a folder to and fro", Try: func(c *C) {
		for range 5 {
			c.rename("dir", "dir~") // as pip stashes
			c.gone("dir/inner")
			c.rename("dir~", "dir")
		}
		c.holds("dir/sub/deep", "deep "+text)
		c.lists("", "big", "dir", "file", "full", "other")
	}},
	{Name: "rename/a folder's folder up and down", Try: func(c *C) {
		c.rename("dir/sub", "sub")
		c.changes(func() { c.rename("dir", "sub/dir") }, map[string]change{"": content, "sub": content})
		c.holds("sub/deep", "deep "+text)
		c.holds("sub/dir/inner", "inner "+text)
		c.lists("sub", "deep", "dir")
		equal(c, "ino of ..", c.lstat("sub/dir/..").Ino, c.lstat("sub").Ino)
	}},
	{Name: "rename/a folder over an empty one", Try: func(c *C) {
		c.mkdir("empty")
		ino := c.lstat("dir").Ino
		c.rename("dir", "empty")
		equal(c, "ino", c.lstat("empty").Ino, ino)
		c.holds("empty/inner", "inner "+text)
		c.gone("dir")
	}},
	{Name: "rename/a folder over one that was emptied", Try: func(c *C) {
		c.remove("full/one")
		c.remove("full/two")
		c.rename("dir", "full")
		c.lists("full", "inner", "sub")
		c.gone("full/one")
	}},
	{Name: "rename/a folder with an open file and the working directory in it", Try: func(c *C) {
		fd := c.open("dir/sub/deep", unix.O_RDWR, 0)
		c.ok(unix.Chdir(c.path("dir/sub")))
		c.rename("dir", "moved")
		c.writeAt(fd, "DEEP", 0)
		c.holds("moved/sub/deep", "DEEP "+text)
		var st unix.Stat_t
		c.ok(unix.Stat("deep", &st))
		c.ok(unix.Mkdir("made", 0o755))
		c.lists("moved/sub", "deep", "made")
	}},
	{Name: "rename/errors", Try: func(c *C) {
		c.mkdir("empty")
		c.symlink("loop", "loop")
		for _, k := range []struct {
			from, to string
			want     syscall.Errno
		}{
			{"missing", "new", unix.ENOENT}, {"file", "missing/new", unix.ENOENT}, {"missing/x", "new", unix.ENOENT},
			{"file", "dir", unix.EISDIR}, {"file", "empty", unix.EISDIR}, {"dir", "file", unix.ENOTDIR}, {"empty", "file", unix.ENOTDIR},
			{"dir", "full", unix.ENOTEMPTY}, {"full", "dir", unix.ENOTEMPTY}, {"empty", "dir", unix.ENOTEMPTY},
			{"dir", "dir/sub/x", unix.EINVAL}, {"dir", "dir/x", unix.EINVAL}, {"dir", "dir/sub", unix.EINVAL}, {"dir/sub", "dir", unix.ENOTEMPTY},
			{"file/x", "new", unix.ENOTDIR}, {"file", "other/x", unix.ENOTDIR}, {"file", "new/", unix.ENOTDIR}, {"file/", "new", unix.ENOTDIR},
			{"loop/x", "new", unix.ELOOP}, {"file", "loop/x", unix.ELOOP},
		} {
			if err := c.tryRename(k.from, k.to, 0); err != k.want {
				c.errorf("rename of %q to %q: %v, want %s", k.from, k.to, err, errnoName(k.want))
			}
		}
		c.lists("", "big", "dir", "empty", "file", "full", "loop", "other")
		c.lists("dir", "inner", "sub")
		c.lists("full", "one", "two")
	}},
	{Name: "rename/flags that exclude each other", Try: func(c *C) {
		c.want(unix.EINVAL, c.tryRename("file", "new", noReplace|exchange))
		c.want(unix.EINVAL, c.tryRename("file", "new", 1<<10))
		c.holds("file", text)
	}},
	{Name: "rename/EXDEV", Try: func(c *C) {
		if c.Outside == "" {
			return
		}
		c.want(unix.EXDEV, unix.Rename(c.path("file"), c.Outside+"/new"))
		c.want(unix.EXDEV, unix.Rename(c.path("dir"), c.Outside+"/new"))
	}},
	{Name: "rename/EACCES", Who: Ordinary, Try: func(c *C) {
		defer c.chmod("dir", 0o755)
		c.chmod("dir", 0o555)
		c.want(unix.EACCES, c.tryRename("dir/inner", "new", 0))
		c.want(unix.EACCES, c.tryRename("file", "dir/new", 0))
		c.want(unix.EACCES, c.tryRename("file", "dir/inner", exchange))
		c.chmod("dir", 0o666)
		c.want(unix.EACCES, c.tryRename("dir/inner", "new", 0))
	}},
	{Name: "rename/EACCES of a folder that isn't the caller's to write", Who: Ordinary, Try: func(c *C) {
		// Its .. changes, but only when its parent does.
		defer c.chmod("moved", 0o755)
		c.chmod("dir", 0o555)
		c.want(unix.EACCES, c.tryRename("dir", "full/moved", 0))
		c.want(0, c.tryRename("dir", "moved", 0))
	}},
	{Name: "rename/NOREPLACE", Try: func(c *C) {
		c.want(unix.EEXIST, c.tryRename("file", "other", noReplace))
		c.want(unix.EEXIST, c.tryRename("file", "dir", noReplace))
		c.want(unix.EEXIST, c.tryRename("dir", "full", noReplace))
		c.want(unix.EEXIST, c.tryRename("file", "file", noReplace))
		c.symlink("nowhere", "dangling")
		c.want(unix.EEXIST, c.tryRename("file", "dangling", noReplace))
		c.want(unix.ENOENT, c.tryRename("missing", "new", noReplace))
		c.holds("other", "other "+text)
		c.want(0, c.tryRename("file", "new", noReplace))
		c.want(0, c.tryRename("dir", "newdir", noReplace))
		c.holds("new", text)
		c.holds("newdir/inner", "inner "+text)
		c.remove("other")
		c.want(0, c.tryRename("new", "other", noReplace))
		c.holds("other", text)
	}},
	{Name: "rename/EXCHANGE of files", Try: func(c *C) {
		a, b := c.lstat("file").Ino, c.lstat("dir/inner").Ino
		c.changes(func() { c.want(0, c.tryRename("file", "dir/inner", exchange)) }, map[string]change{"": content, "dir": content})
		c.holds("file", "inner "+text)
		c.holds("dir/inner", text)
		equal(c, "ino", c.lstat("file").Ino, b)
		equal(c, "ino", c.lstat("dir/inner").Ino, a)
		c.want(0, c.tryRename("file", "dir/inner", exchange))
		c.holds("file", text)
	}},
	{Name: "rename/EXCHANGE of folders", Try: func(c *C) {
		a, b := c.lstat("dir").Ino, c.lstat("full").Ino
		c.want(0, c.tryRename("dir", "full", exchange))
		c.lists("dir", "one", "two")
		c.lists("full", "inner", "sub")
		equal(c, "ino", c.lstat("dir").Ino, b)
		equal(c, "ino", c.lstat("full").Ino, a)
		c.write("dir/one", "changed")
		c.remove("full/inner")
		c.want(0, c.tryRename("full", "dir", exchange))
		c.holds("full/one", "changed")
		c.lists("dir", "sub")
	}},
	{Name: "rename/EXCHANGE of a file and a folder", Try: func(c *C) {
		c.want(0, c.tryRename("file", "dir", exchange))
		c.holds("dir", text)
		c.lists("file", "inner", "sub")
		c.holds("file/sub/deep", "deep "+text)
		c.write("dir", "a file")
		c.remove("file/inner")
		c.want(0, c.tryRename("file", "dir", exchange))
		c.holds("file", "a file")
		c.lists("dir", "sub")
	}},
	{Name: "rename/EXCHANGE changes the links of parents", Try: func(c *C) {
		top, dir := c.lstat("").Nlink, c.lstat("dir").Nlink
		c.want(0, c.tryRename("full", "dir/inner", exchange)) // a folder for a file
		equal(c, "nlink of the folder that lost one", c.lstat("").Nlink, top-1)
		equal(c, "nlink of the folder that got one", c.lstat("dir").Nlink, dir+1)
		c.lists("dir/inner", "one", "two")
		c.holds("full", "inner "+text)
	}},
	{Name: "rename/EXCHANGE with a symlink", Try: func(c *C) {
		c.symlink("nowhere", "link")
		c.want(0, c.tryRename("file", "link", exchange))
		c.holds("link", text)
		equal(c, "type", c.lstat("file").Mode&unix.S_IFMT, unix.S_IFLNK)
	}},
	{Name: "rename/EXCHANGE errors", Try: func(c *C) {
		c.want(unix.ENOENT, c.tryRename("file", "missing", exchange))
		c.want(unix.ENOENT, c.tryRename("missing", "file", exchange))
		c.want(unix.EINVAL, c.tryRename("dir", "dir/sub", exchange))
		c.want(unix.EINVAL, c.tryRename("dir/sub", "dir", exchange))
		c.want(unix.EINVAL, c.tryRename("dir/inner", "dir", exchange))
		c.want(0, c.tryRename("file", "file", exchange))
		c.holds("file", text)
	}},
	{Name: "rename/WHITEOUT is refused or makes one", Who: Root, Try: func(c *C) {
		// A flag of overlayfs's own: a device 0/0 stays behind.
		switch err := c.tryRename("file", "new", unix.RENAME_WHITEOUT); err {
		case nil:
			equal(c, "type", c.lstat("file").Mode&unix.S_IFMT, unix.S_IFCHR)
		default:
			c.want(unix.EINVAL, err)
			c.holds("file", text)
		}
	}},
	{Name: "rename/a folder changes the links of its parents", Try: func(c *C) {
		top, full := c.lstat("").Nlink, c.lstat("full").Nlink
		c.rename("dir", "full/dir")
		equal(c, "nlink of the old parent", c.lstat("").Nlink, top-1)
		equal(c, "nlink of the new parent", c.lstat("full").Nlink, full+1)
	}},
	{Name: "rename/made folders over each other", New: true, Try: func(c *C) {
		for i := range 10 {
			c.mkdir("new")
			c.write("new/f", fmt.Sprint(i))
			if i > 0 {
				c.remove("old/f")
			}
			c.rename("new", "old")
			c.holds("old/f", fmt.Sprint(i))
		}
		c.lists("", "old")
	}},
	{Name: "rename/a chain of folders", Try: func(c *C) {
		c.rename("dir/sub", "full/sub")
		c.rename("full", "dir/full")
		c.rename("dir/full/sub", "sub")
		c.rename("dir", "sub/dir")
		c.lists("sub/dir/full", "one", "two")
		c.holds("sub/deep", "deep "+text)
		c.holds("sub/dir/inner", "inner "+text)
		c.lists("", "big", "file", "other", "sub")
	}},
	{Name: "rename/a lookup of the old name fails at once", Try: func(c *C) {
		c.gone("missing") // and is remembered as missing
		c.rename("file", "missing")
		c.holds("missing", text)
		c.gone("file")
		c.rename("missing", "file")
		c.gone("missing")
		c.holds("file", text)
	}},
	{Name: "rename/many files into a folder", Try: func(c *C) {
		for i := range 100 {
			c.write(fmt.Sprintf("f%02d", i), fmt.Sprint(i))
		}
		for i := range 100 {
			c.rename(fmt.Sprintf("f%02d", i), fmt.Sprintf("dir/f%02d", 99-i))
		}
		equal(c, "names in the folder", len(c.list("dir")), 102)
		c.holds("dir/f00", "99")
		equal(c, "names", strings.Join(c.list(""), " "), "big dir file full other")
	}},
}

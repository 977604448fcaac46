package materialize

import (
	"context"

	"github.com/sitefs/sitefs/manifest/digest"
	"github.com/sitefs/sitefs/manifest/tree"
)

// A content is what paths must have in common to be able to share an inode.
type content struct {
	digest digest.Digest
	exec   bool
	mtime  int64
}

func contentOf(a tree.Attr) content { return content{a.Digest, a.Exec, a.Mtime} }

// makeLinks has the store make what the environment will link to, and decides
// which path of a content that is: the first one. The others are copied, since no
// two paths may share an inode: dlopen and samefile compare them.
func (b *builder) makeLinks(ctx context.Context) error {
	b.linked = make(map[content]tree.ID)
	var files []tree.Attr
	err := b.tree.Walk(func(_ string, id tree.ID, a tree.Attr) error {
		if a.Kind != tree.File || a.Size == 0 {
			return nil
		}
		if _, ok := b.linked[contentOf(a)]; !ok {
			b.linked[contentOf(a)] = id
			files = append(files, a)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return b.src.MakeLinks(ctx, files)
}

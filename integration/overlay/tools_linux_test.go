package overlay

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sitefs/sitefs/integration/posix"
	"github.com/sitefs/sitefs/integration/sandbox"
)

// tools are what people do in a folder. Each script starts beside a folder src, and
// what it prints and leaves has to be the same wherever it is run.
var tools = []struct {
	name   string
	needs  string // a program
	script string
}{
	{"git", "git", `
		export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_DATE='2020-01-01T00:00:00Z' GIT_COMMITTER_DATE='2020-01-01T00:00:00Z'
		git() { command git -c user.name=a -c user.email=a@example.com -c pack.threads=1 -c gc.autoDetach=false -c init.defaultBranch=main "$@"; }
		git init -q src && cd src && git add . && git commit -q -m one
		for i in 1 2 3 4 5; do echo $i >>text/3; git mv text/1$i moved$i; git commit -q -a -m "change $i"; done
		git checkout -q -b side HEAD~2 && echo side >side && git add side && git commit -q -m side
		git checkout -q main && git merge -q -m merge side
		cd .. && git clone -q src clone && git clone -q --no-hardlinks --bare src bare
		cd src && git gc -q --prune=now && git repack -q -a -d -f && git fsck --full --strict 2>&1
		git worktree add -q ../tree side && git stash list && echo changed >text/5 && git stash -q && git stash pop -q
		git status --porcelain && git log --oneline && git -C ../clone status --porcelain && git -C ../clone log --oneline
		git clean -qxfd && git reset -q --hard && git ls-files | wc -l
		rm -rf .git ../clone/.git ../bare ../tree`},
	{"sqlite", "sqlite3", `
		sqlite3 db 'pragma journal_mode=wal; create table t(a integer primary key, b);'
		for w in 1 2 3; do
			for i in 1 2 3 4 5 6 7 8; do sqlite3 -cmd '.timeout 30000' db "insert into t(b) values('$w $i')"; done &
		done
		wait
		sqlite3 db 'pragma integrity_check; select count(*), count(distinct b) from t; pragma wal_checkpoint(truncate);'
		sqlite3 db 'begin; delete from t where a % 2; rollback; select count(*) from t; vacuum; pragma journal_mode=delete; select count(*) from t'
		rm db; ls`},
	{"make", "make", `
		printf 'all: $(patsubst src/text/%%,out/%%,$(wildcard src/text/[0-9]*))\n\techo all >all\nout/%%: src/text/%%\n\t@mkdir -p out\n\t@sort $< >$@.tmp && mv $@.tmp $@\n' >Makefile
		make -s -j 4 && make -q all; echo "up to date: $?"
		touch -d '1999-01-01' out/3 && make -s -n | grep -c sort`},
	{"rsync", "rsync", `
		rsync -a src/ copy/ && rsync -ani --delete src/ copy/
		rm copy/text/1*; echo other >copy/text/2; mkdir copy/more; echo x >copy/more/x
		rsync -a --delete --checksum src/ copy/ && rsync -anic --delete src/ copy/
		rm -r src/text/2* && rsync -a --delete src/ copy/ && diff -r src copy
		rsync -a --inplace --append-verify src/ other/ && rsync -aH --link-dest=../other src/ third/ && stat -c %h third/text/3`},
	{"tar", "tar", `
		tar cf a.tar src && mkdir x && tar xf a.tar -C x && tar df a.tar -C x && diff -r src x/src
		tar xf a.tar && tar df a.tar && tar xf a.tar --overwrite && tar xf a.tar --unlink-first --recursive-unlink && tar df a.tar
		rm a.tar`},
	{"cp", "cp", `
		cp -a src a && diff -r src a && cp -al src b && stat -c %h b/text/1 src/text/1 && cp -au a/. src && cp --sparse=always -a src c
		cp --remove-destination -a c/. b/ && stat -c %h b/text/1 && cp -f a/text/1 a/text/2 && cmp a/text/1 a/text/2`},
	{"mv", "mv", `
		mv src/text src/moved && mv src/moved . && mv moved/1 moved/2 moved/dir && mv -T moved src/again && ls src/again/dir
		mv src/again "$OUTSIDE/away" && mv "$OUTSIDE/away" src/back && ls src/back | wc -l && mv -n src/back/3 src/back/4; ls src/back/3`},
	{"sed, install, ln", "sed", `
		sed -i 's/line/LINE/' src/text/[0-9]* && grep -rc LINE src/text | sort | md5sum && install -m 0700 src/text/3 src/text/dir/installed
		ln -sf text src/link && ln -sfn dir src/link && readlink src/link && ln -f src/text/4 src/text/5 && stat -c %h src/text/5
		truncate -s 100 src/text/6 && dd if=/dev/zero of=src/text/7 bs=10 seek=3 count=2 conv=notrunc 2>/dev/null && split -b 20 src/text/8 src/text/part-
		chmod -R u+w,go-rwx src/text && find src -perm 0600 | wc -l && touch -r src/text/3 src/text/9 && find src -newer src/text/8 -name 9`},
	{"find and du", "find", `
		find src -type f | sort | xargs cat | md5sum && find src -depth -print | wc -l && find src -empty && find src -name '1*' -delete && find src -type f | wc -l
		find src -links +1 -type f; mkdir -p src/a/b/c && find src -type d -empty -delete; ls src`},
	{"rm", "rm", `
		rm -r src/text/dir && ls -A src/text | wc -l && rm -r src && ls -A && mkdir src && ls -A src && rmdir src`},
}

// sources is a folder of files of some sizes.
func sources() map[string]string {
	files := map[string]string{"dir/inner": "in a folder\n", "empty": ""}
	for i := range 40 {
		files[fmt.Sprintf("text/%d", i)] = strings.Repeat(fmt.Sprintf("line %d\n", i), 1+i*i)
	}
	files["text/dir/deep"] = "deep\n"
	return files
}

// What tools do in an overlay ends as it does on an ordinary file system.
func TestTools(t *testing.T) {
	users(t, func(t *testing.T, uid int) {
		o := newOverlay(t, uid, numbered("src", len(tools), sources()))
		o.mount(t)
		var ran []int
		for i, tool := range tools {
			t.Run(tool.name, func(t *testing.T) {
				sandbox.NeedProgram(t, tool.needs)
				ran = append(ran, i)
				plain := filepath.Join(o.Dir, "plain", fmt.Sprint(i))
				over := filepath.Join(o.venv, fmt.Sprint(i))
				o.Must(t, "mkdir", over)
				o.Must(t, "mkdir", "-p", plain)
				o.Must(t, "cp", "-r", filepath.Join(o.site, "src", fmt.Sprintf("%04d", i)), filepath.Join(plain, "src"))
				o.Must(t, "sh", "-c", `mv "$1" "$2"`, "sh", filepath.Join(o.site, "src", fmt.Sprintf("%04d", i)), filepath.Join(over, "src"))
				o.Must(t, "sh", "-c", `cd "$1" && find . -exec chmod u=rwX,go=rX {} + && find . -exec touch -d '2021-01-01' {} +`, "sh", plain)
				o.Must(t, "sh", "-c", `cd "$1" && find . -exec touch -d '2021-01-01' {} +`, "sh", over)
				want, got := o.tool(t, tool.script, plain), o.tool(t, tool.script, over)
				if got != want {
					t.Errorf("it says\n%s, on an ordinary file system\n%s", got, want)
				}
				if err := posix.As(uid, uid, func() { sameTree(t, over, plain) }); err != nil {
					t.Error(err)
				}
			})
		}
		o.remount(t)
		for _, i := range ran {
			if err := posix.As(uid, uid, func() {
				sameTree(t, filepath.Join(o.venv, fmt.Sprint(i)), filepath.Join(o.Dir, "plain", fmt.Sprint(i)))
			}); err != nil {
				t.Error(err)
			}
		}
	})
}

// tool runs a script in a folder and returns what it says.
func (o *overlay) tool(t *testing.T, script, dir string) string {
	t.Helper()
	r := o.Run(t, "env", "-C", dir, "OUTSIDE="+o.Dir, "LC_ALL=C", "sh", "-c", script)
	return strings.ReplaceAll(fmt.Sprintf("%s%sexit code %d\n", r.Stdout, r.Stderr, r.Code), dir, "DIR")
}

// sameTree compares two folders, times aside.
func sameTree(t *testing.T, got, want string) {
	t.Helper()
	g, err := readTree(got)
	if err != nil {
		t.Error(err)
		return
	}
	w, err := readTree(want)
	if err != nil {
		t.Error(err)
		return
	}
	for _, tree := range []map[string]file{g, w} {
		for name, f := range tree {
			f.mtime = time.Time{}
			tree[name] = f
		}
	}
	if d := differs(g, w); d != "" {
		t.Errorf("%s: %s", got, d)
	}
}

package compiler

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestX(t *testing.T) {
	for _, py := range []string{"3.8.18","3.13.0"} {
	py,_ := filepath.Abs(os.Getenv("HOME")+"/.pyenv/versions/"+py+"/bin/python")
	out, err := exec.Command(py, "-c", "import sys,importlib.util as u;print(sys.implementation.cache_tag,u.MAGIC_NUMBER.hex())").Output()
	if err != nil { t.Fatal(err) }
	f := strings.Fields(string(out))
	c, err := Start(context.Background(), Config{Python: py, Tag: f[0], Magic: f[1]})
	if err != nil { t.Fatal(err) }
	code, err := c.Compile(context.Background(), []byte("x = 1\n"), "a.py", 0)
	t.Log(len(code), err)
	_, err = c.Compile(context.Background(), []byte("x = \n"), "a.py", 0)
	t.Log(err)
	t.Log(c.Close())
	_, err = Start(context.Background(), Config{Python: py, Tag: "x", Magic: f[1]})
	t.Log(err)
	}
}

package manifest

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/sitefs/sitefs/manifest/tree"
	"github.com/sitefs/sitefs/manifest/wheel"
)

// scriptBody is what pip 26 writes for an entry point: it needs str.removesuffix.
const scriptBody = `import sys
from %s import %s
if __name__ == '__main__':
    sys.argv[0] = sys.argv[0].removesuffix('.exe')
    sys.exit(%s())
`

// scriptBody38 is what the last pip for Python 3.8 writes.
const scriptBody38 = `# -*- coding: utf-8 -*-
import re
import sys
from %s import %s
if __name__ == '__main__':
    sys.argv[0] = re.sub(r'(-script\.pyw|\.exe)?$', '', sys.argv[0])
    sys.exit(%s())
`

// script returns the template of the script that runs an entry point: it
// imports the first part of the attribute and calls the whole of it.
func (v *venv) script(e wheel.EntryPoint) []byte {
	body := scriptBody
	if v.py.Version[0] == 3 && v.py.Version[1] < 9 {
		body = scriptBody38
	}
	first, _, _ := strings.Cut(e.Attr, ".")
	return []byte(tree.MarkScript + fmt.Sprintf(body, e.Module, first, e.Attr))
}

// shippedScript returns the template of a script that a wheel ships: its first line,
// "#!python" and whatever follows, becomes the venv's interpreter.
func shippedScript(content []byte) []byte {
	_, rest, _ := bytes.Cut(content, []byte("\n"))
	return append([]byte(tree.MarkSource), tree.Quote(rest)...)
}

// scripts returns the entry points that get a script, under the names they get.
// Like pip it gives pip and easy_install the names of the Python in use instead
// of the ones of the Python that built the wheel.
func (v *venv) scripts(points []wheel.EntryPoint) []wheel.EntryPoint {
	points = slices.Clone(points)
	points = renamed(points, "pip", `^pip(\d+(\.\d+)?)?$`, v.pipNames())
	return renamed(points, "easy_install", `^easy_install(-\d+\.\d+)?$`, []string{"easy_install", "easy_install-" + v.minor})
}

// renamed replaces the console entry points that match by the one called name
// under each of names. Without such a one it leaves them as they are.
func renamed(points []wheel.EntryPoint, name, match string, names []string) []wheel.EntryPoint {
	i := slices.IndexFunc(points, func(e wheel.EntryPoint) bool { return e.Name == name && !e.GUI })
	if i < 0 {
		return points
	}
	point, matches := points[i], regexp.MustCompile(match)
	points = slices.DeleteFunc(points, func(e wheel.EntryPoint) bool { return !e.GUI && matches.MatchString(e.Name) })
	for _, point.Name = range names {
		points = append(points, point)
	}
	return points
}

package tag

import (
	"fmt"
	"slices"
	"strings"
)

// CPython returns the tags of a CPython, best first. version is its major and
// minor number; abis are those that it loads, its own first: "cp313t" is a
// free-threaded build, which takes abi3t and not abi3. [Compatible] follows.
func CPython(version []int, abis, platforms []string) []Tag {
	stable := ""
	threaded := len(abis) > 0 && isThreaded(abis[0])
	if len(version) > 1 && slices.Compare(version, []int{3, 2}) >= 0 {
		stable = "abi3" // PEP 384: since 3.2
		if threaded {
			stable = "abi3t" // PEP 803, which mirrors abi3
		}
	}
	interpreter := "cp" + noDot(version)
	var tags []Tag
	for _, abi := range abis {
		if abi != "none" && abi != "abi3" && !(threaded && abi == "abi3t") {
			tags = appendPlatforms(tags, interpreter, abi, platforms)
		}
	}
	if stable != "" {
		tags = appendPlatforms(tags, interpreter, stable, platforms)
	}
	tags = appendPlatforms(tags, interpreter, "none", platforms)
	if stable != "" {
		for minor := version[1] - 1; minor >= 2; minor-- {
			tags = appendPlatforms(tags, "cp"+noDot([]int{version[0], minor}), stable, platforms)
		}
	}
	return tags
}

// isThreaded reports whether an ABI such as cp313td is that of a free-threaded
// build.
func isThreaded(abi string) bool {
	flags, ok := strings.CutPrefix(abi, "cp")
	return ok && strings.Contains(strings.TrimLeft(flags, "0123456789"), "t")
}

// Generic returns the tags of an interpreter without rules of its own, such as
// PyPy's pp310. [Compatible] follows.
func Generic(interpreter string, abis, platforms []string) []Tag {
	var tags []Tag
	for _, abi := range abis {
		tags = appendPlatforms(tags, interpreter, abi, platforms)
	}
	if !slices.Contains(abis, "none") {
		tags = appendPlatforms(tags, interpreter, "none", platforms)
	}
	return tags
}

// Compatible returns the tags of wheels without compiled code that a Python of
// that version takes: py3-none-any and the like. interpreter may be empty.
func Compatible(version []int, interpreter string, platforms []string) []Tag {
	var tags []Tag
	pythons := pythonRange(version)
	for _, python := range pythons {
		tags = appendPlatforms(tags, python, "none", platforms)
	}
	if interpreter != "" {
		tags = append(tags, Tag{interpreter, "none", "any"})
	}
	for _, python := range pythons {
		tags = append(tags, Tag{python, "none", "any"})
	}
	return tags
}

// pythonRange returns py312, py3, py311, … py30.
func pythonRange(version []int) []string {
	major := "py" + noDot(version[:1])
	if len(version) == 1 {
		return []string{major}
	}
	names := []string{"py" + noDot(version[:2]), major}
	for minor := version[1] - 1; minor >= 0; minor-- {
		names = append(names, "py"+noDot([]int{version[0], minor}))
	}
	return names
}

func appendPlatforms(tags []Tag, python, abi string, platforms []string) []Tag {
	for _, platform := range platforms {
		tags = append(tags, Tag{python, abi, platform})
	}
	return tags
}

// noDot returns the major and minor number without a dot: 3.12 is "312".
func noDot(version []int) string {
	var b strings.Builder
	for _, n := range version[:min(2, len(version))] {
		fmt.Fprint(&b, n)
	}
	return b.String()
}

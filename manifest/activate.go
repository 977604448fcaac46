package manifest

import (
	_ "embed"
	"strings"

	"github.com/sitefs/sitefs/manifest/tree"
)

// The activate scripts set and restore the variables that the scripts of
// Python's venv do, under the same names. They name the environment's path
// once, as a mark that the shell's own quoting replaces, so that no path is
// code.
var (
	//go:embed activate/activate
	activateShell string
	//go:embed activate/activate.fish
	activateFish string
	//go:embed activate/activate.csh
	activateCsh string
)

// What a script holds in place of the path and of the prompt.
const (
	pathHolder   = "@VIRTUAL_ENV@"
	promptHolder = "@PROMPT@"
)

// activateScripts are the scripts in bin.
var activateScripts = []activateScript{
	{"activate", &activateShell, tree.MarkShell, tree.QuoteShell, `"${VIRTUAL_ENV##*/}"`},
	{"activate.fish", &activateFish, tree.MarkFish, tree.QuoteFish, `(string replace -r '.*/' '' -- $VIRTUAL_ENV)`},
	{"activate.csh", &activateCsh, tree.MarkCsh, tree.QuoteCsh, `"$VIRTUAL_ENV:t"`},
}

type activateScript struct {
	name     string
	source   *string
	mark     string
	quote    func(string) string
	baseName string // the shell's expression for the name of the directory
}

// text returns the script as a template, with the prompt filled in.
func (s *activateScript) text(prompt string) string {
	word := s.baseName
	if prompt != "" {
		word = string(tree.Quote([]byte(s.quote(prompt))))
	}
	return strings.NewReplacer(pathHolder, s.mark, promptHolder, word).Replace(*s.source)
}

package lock

import (
	"fmt"
	"strings"
)

// A refusal is a message that stands by itself, of a kind that callers decide by.
type refusal struct {
	kind error
	text string
}

func (r *refusal) Error() string { return r.text }
func (r *refusal) Unwrap() error { return r.kind }

func refuse(kind error, format string, args ...any) error {
	return &refusal{kind, fmt.Sprintf(format, args...)}
}

// wheelsOnly refuses sources without a wheel, all in one message.
func (t *target) wheelsOnly(sources []source) error {
	var lines []string
	foreign := false
	var unbuilt *pkg
	for _, s := range sources {
		switch {
		case s.wheel != nil:
		case len(s.pkg.wheels) > 0:
			foreign = true
			lines = append(lines, fmt.Sprintf("%s: the lock file offers %s", s.pkg, offers(s.pkg.wheels)))
		default:
			unbuilt = s.pkg
			lines = append(lines, fmt.Sprintf("%s: %s, which must be built first", s.pkg, s.pkg.unbuilt()))
		}
	}
	if len(lines) == 0 {
		return nil
	}
	if foreign {
		lines = append(lines, fmt.Sprintf("%s takes %s: lock again for it, or choose another with --python", t.name, t.takes()))
	}
	if unbuilt != nil {
		lines = append(lines, fmt.Sprintf("sitefs builds nothing: make a wheel of %s (pip wheel, uv build) and lock again with it, by --find-links or as a path", unbuilt.name))
	}
	return refuse(ErrNoWheel, "no wheel to install for\n  %s", strings.Join(lines, "\n  "))
}

// unbuilt says what there is instead of a wheel.
func (p *pkg) unbuilt() string {
	switch {
	case p.sdist != nil:
		return "an sdist (" + p.sdist.name + ")"
	case p.archive != nil:
		return "an archive of sources (" + p.archive.where() + ")"
	case p.vcs != "":
		return "a version control checkout (" + p.vcs + ")"
	default:
		return "a directory of sources (" + p.directory + "; uv export --no-emit-project leaves a project itself out)"
	}
}

// shown is how many tags of a package a message shows: enough to see which
// platforms and versions there are, short of a screenful.
const shown = 6

// offers lists the tags of the wheels as their file names have them.
func offers(wheels []wheelFile) string {
	var tags []string
	for _, w := range wheels {
		parts := strings.Split(strings.TrimSuffix(w.name, ".whl"), "-")
		tags = append(tags, strings.Join(parts[len(parts)-3:], "-"))
	}
	if more := len(tags) - shown; more > 0 {
		tags = append(tags[:shown], fmt.Sprintf("%d more", more))
	}
	return strings.Join(tags, ", ")
}

// takes shows what tags the target takes: the best of its own ones, the best
// that a public wheel can have (linux_* can't be uploaded), and the last.
func (t *target) takes() string {
	tags := t.tags.Tags()
	if len(tags) == 0 {
		return "no tags"
	}
	text := tags[0].String()
	for _, tag := range tags {
		if !strings.HasPrefix(tag.Platform, "linux_") {
			text += ", " + tag.String()
			break
		}
	}
	return fmt.Sprintf("%s … %s (%d tags)", text, tags[len(tags)-1], len(tags))
}

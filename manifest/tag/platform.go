package tag

import (
	"fmt"
	"slices"
	"strings"
)

// A Libc is the C library that an interpreter runs on. The zero Libc is one that
// no portable wheel is built for.
type Libc struct {
	Name         string // "glibc" or "musl"
	Major, Minor int
}

// LinuxPlatforms returns the platform tags of an interpreter on Linux, best
// first: linux, then manylinux (PEP 600) or musllinux (PEP 656). machine is as
// sysconfig.get_platform() ends, x86_64; a 32-bit interpreter on a 64-bit kernel
// says so apart. An armv7l interpreter that is not hard-float runs no manylinux
// wheel: pass the zero Libc.
func LinuxPlatforms(machine string, is32Bit bool, libc Libc) []string {
	archs := linuxArchs(machine, is32Bit)
	var tags []string
	for _, arch := range archs {
		tags = append(tags, "linux_"+arch)
	}
	for _, arch := range archs {
		switch libc.Name {
		case "glibc":
			if slices.Contains(manylinuxArchs, archs[len(archs)-1]) {
				tags = appendManylinux(tags, arch, libc)
			}
		case "musl":
			for minor := libc.Minor; minor >= 0; minor-- {
				tags = append(tags, fmt.Sprintf("musllinux_%d_%d_%s", libc.Major, minor, arch))
			}
		}
	}
	return tags
}

// manylinuxArchs are the machines that PEP 600 wheels exist for.
var manylinuxArchs = []string{"x86_64", "i686", "aarch64", "armv7l", "ppc64", "ppc64le", "s390x", "loongarch64", "riscv64"}

// linuxArchs returns the machines whose code the interpreter runs, its own first.
func linuxArchs(machine string, is32Bit bool) []string {
	switch {
	case is32Bit && machine == "x86_64":
		return []string{"i686"}
	case is32Bit && machine == "aarch64", machine == "armv8l":
		return []string{"armv8l", "armv7l"}
	}
	return []string{machine}
}

// appendManylinux appends every glibc version from the machine's own down to the
// oldest that wheels were built for, with the old names of three of them.
func appendManylinux(tags []string, arch string, libc Libc) []string {
	oldest := 17 // manylinux2014, the first for other machines
	if arch == "x86_64" || arch == "i686" {
		oldest = 5 // manylinux1
	}
	legacy := map[int]string{17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
	// A glibc 3 would still run what a glibc 2 runs.
	for major := libc.Major; major >= 2; major-- {
		newest := 50 // packaging's guess at how far an earlier major went
		if major == libc.Major {
			newest = libc.Minor
		}
		last := 0
		if major == 2 {
			last = oldest
		}
		for minor := newest; minor >= last; minor-- {
			tags = append(tags, fmt.Sprintf("manylinux_%d_%d_%s", major, minor, arch))
			if name, ok := legacy[minor]; ok && major == 2 {
				tags = append(tags, name+"_"+arch)
			}
		}
	}
	return tags
}

// MacPlatforms returns the platform tags of macOS major.minor on that
// architecture, best first.
func MacPlatforms(major, minor int, arch string) []string {
	var tags []string
	add := func(major, minor int, formats []string) {
		for _, format := range formats {
			tags = append(tags, fmt.Sprintf("macosx_%d_%d_%s", major, minor, format))
		}
	}
	if major == 10 {
		for ; minor >= 0; minor-- {
			add(10, minor, macFormats(minor, arch))
		}
		return tags
	}
	// Since macOS 11 a year is a major version, and its minor versions are
	// compatible with each other.
	for ; major > 10; major-- {
		add(major, 0, macFormats(16, arch))
	}
	for minor := 16; minor >= 4; minor-- {
		if arch == "x86_64" {
			add(10, minor, macFormats(minor, arch))
		} else {
			// There is no arm64 binary from before 11, but half of a universal2
			// one may say it runs there.
			add(10, minor, []string{"universal2"})
		}
	}
	return tags
}

// macFormats returns the binary formats that hold code for arch and run on
// macOS 10.minor; 16 stands for every later version.
func macFormats(minor int, arch string) []string {
	switch arch {
	case "x86_64":
		if minor < 4 {
			return nil
		}
		return []string{arch, "intel", "fat64", "fat3", "universal2", "universal"}
	case "i386":
		if minor < 4 {
			return nil
		}
		return []string{arch, "intel", "fat3", "fat", "universal"}
	case "ppc64":
		if minor < 4 || minor > 5 {
			return nil
		}
		return []string{arch, "fat64", "universal"}
	case "ppc":
		if minor > 6 {
			return nil
		}
		return []string{arch, "fat3", "fat", "universal"}
	case "intel":
		return []string{arch, "universal"}
	case "arm64":
		return []string{arch, "universal2"}
	}
	return []string{arch}
}

// IOSPlatforms returns the platform tags of iOS major.minor, best first.
// multiarch is as sys.implementation._multiarch has it, arm64-iphoneos.
func IOSPlatforms(major, minor int, multiarch string) []string {
	multiarch = strings.ReplaceAll(multiarch, "-", "_")
	var tags []string
	for ; major >= 12; major-- { // CPython runs since iOS 12
		for ; minor >= 0; minor-- {
			tags = append(tags, fmt.Sprintf("ios_%d_%d_%s", major, minor, multiarch))
		}
		minor = 9 // no version has had a higher one
	}
	return tags
}

// AndroidPlatforms returns the platform tags of an Android API level, best first.
func AndroidPlatforms(level int, abi string) []string {
	var tags []string
	for ; level >= 16; level-- { // CPython runs since level 16
		tags = append(tags, fmt.Sprintf("android_%d_%s", level, Normalize(abi)))
	}
	return tags
}

// Normalize returns a platform's or an ABI's name as tags spell it, with
// underscores: linux-x86_64 is linux_x86_64.
func Normalize(s string) string {
	return strings.NewReplacer(".", "_", "-", "_", " ", "_").Replace(s)
}

package lock

import "testing"

// The texts were written by pip 23.2 and by json.dumps(sort_keys=True).
func TestDirectURLEncode(t *testing.T) {
	tests := []struct {
		name string
		d    DirectURL
		want string
	}{
		{
			"local wheel", DirectURL{URL: "file:///w/foo-1-py3-none-any.whl", Archive: &ArchiveInfo{map[string]string{"sha256": "59ec"}}},
			`{"archive_info": {"hash": "sha256=59ec", "hashes": {"sha256": "59ec"}}, "url": "file:///w/foo-1-py3-none-any.whl"}`,
		},
		{
			"no hash", DirectURL{URL: "https://example.com/a.zip", Subdirectory: "sub", Archive: &ArchiveInfo{}},
			`{"archive_info": {}, "subdirectory": "sub", "url": "https://example.com/a.zip"}`,
		},
		{
			"several hashes", DirectURL{URL: "https://example.com/a.whl", Archive: &ArchiveInfo{map[string]string{"sha512": "b", "sha256": "a", "blake2b": "c"}}},
			`{"archive_info": {"hash": "sha256=a", "hashes": {"blake2b": "c", "sha256": "a", "sha512": "b"}}, "url": "https://example.com/a.whl"}`,
		},
		{
			"credentials", DirectURL{URL: "https://u:p@example.com/a.whl", Archive: &ArchiveInfo{}},
			`{"archive_info": {}, "url": "https://example.com/a.whl"}`,
		},
		{
			"credentials by name", DirectURL{URL: "https://${USER}:${PASS}@example.com/a.whl", Archive: &ArchiveInfo{}},
			`{"archive_info": {}, "url": "https://${USER}:${PASS}@example.com/a.whl"}`,
		},
		{
			"git", DirectURL{URL: "ssh://git@example.com/r", VCS: &VCSInfo{VCS: "git", CommitID: "c0ffee", RequestedRevision: "main"}},
			`{"url": "ssh://git@example.com/r", "vcs_info": {"commit_id": "c0ffee", "requested_revision": "main", "vcs": "git"}}`,
		},
		{
			"editable", DirectURL{URL: "file:///src", Dir: &DirInfo{Editable: true}},
			`{"dir_info": {"editable": true}, "url": "file:///src"}`,
		},
		{
			"escapes", DirectURL{URL: "file:///<é😀\"\\\t\x7f&>", Dir: &DirInfo{}},
			`{"dir_info": {}, "url": "file:///<\u00e9\ud83d\ude00\"\\\t\u007f&>"}`,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := string(test.d.Encode()); got != test.want {
				t.Errorf("found %s, want %s", got, test.want)
			}
		})
	}
}

func TestPinDirectURL(t *testing.T) {
	p := Pin{Path: "/a b/foo-1-py3-none-any.whl", URL: "https://example.com/x", Hashes: map[string]string{"sha256": sha}, Direct: true}
	want := `{"archive_info": {"hash": "sha256=` + sha + `", "hashes": {"sha256": "` + sha + `"}}, "url": "file:///a%20b/foo-1-py3-none-any.whl"}`
	if got := string(p.DirectURL()); got != want {
		t.Errorf("found %s, want %s", got, want)
	}
	p.Direct = false
	if got := p.DirectURL(); got != nil {
		t.Errorf("found %s for a package of an index, want none", got)
	}
}

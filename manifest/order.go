package manifest

import (
	"cmp"
	"slices"
	"strings"

	"github.com/sitefs/sitefs/manifest/marker"
	"github.com/sitefs/sitefs/manifest/pyver"
)

// rank returns for each wheel its place in the order in which wheels win a path
// that several ship, the winner first. It is the order in which pip installs,
// reversed: dependants win over dependencies, then the alphabetically first
// name wins. Wheels that depend on each other in a circle are equals.
func rank(wheels []wheelMeta, env marker.Environment) []int {
	height := heights(dependencies(wheels, env))
	order := make([]int, len(wheels))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(height[b], height[a]), strings.Compare(wheels[a].Name, wheels[b].Name))
	})
	place := make([]int, len(wheels))
	for p, i := range order {
		place[i] = p
	}
	return place
}

// graph finds out which wheels of an environment require which.
type graph struct {
	byName   map[string]int
	requires [][]marker.Requirement
	env      marker.Environment
	seen     map[node]bool
	edges    [][]int
}

// node is a wheel with one of its extras; "" is the wheel itself.
type node struct {
	wheel int
	extra string
}

// dependencies returns the wheels that each wheel requires, by index. An extra
// counts when another wheel's requirement names it. A requirement that can't be
// read or evaluated orders nothing: whether it is met was the resolver's matter.
func dependencies(wheels []wheelMeta, env marker.Environment) [][]int {
	g := &graph{
		byName:   make(map[string]int, len(wheels)),
		requires: make([][]marker.Requirement, len(wheels)),
		env:      env,
		seen:     make(map[node]bool),
		edges:    make([][]int, len(wheels)),
	}
	for i, w := range wheels {
		g.byName[w.Name] = i
		for _, s := range w.RequiresDist {
			if r, err := marker.ParseRequirement(s); err == nil {
				g.requires[i] = append(g.requires[i], r)
			}
		}
	}
	for i := range wheels {
		g.visit(node{i, ""})
	}
	return g.edges
}

func (g *graph) visit(n node) {
	if g.seen[n] {
		return
	}
	g.seen[n] = true
	for _, r := range g.requires[n.wheel] {
		to, ok := g.byName[r.CanonicalName()]
		if !ok || !g.applies(r.Marker, n.extra) {
			continue
		}
		g.edges[n.wheel] = append(g.edges[n.wheel], to)
		for _, extra := range r.Extras {
			g.visit(node{to, pyver.CanonicalName(extra)})
		}
	}
}

func (g *graph) applies(m *marker.Marker, extra string) bool {
	if m == nil {
		return true
	}
	env := g.env
	env.Extra = extra
	ok, err := m.Eval(env)
	return ok && err == nil
}

// heights returns for each node the longest way down, with the nodes of a
// circle taken as one (Tarjan's strongly connected components).
func heights(edges [][]int) []int {
	t := &tarjan{edges: edges, index: make([]int, len(edges)), low: make([]int, len(edges)), height: make([]int, len(edges))}
	for i := range edges {
		if t.index[i] == 0 {
			t.visit(i)
		}
	}
	return t.height
}

type tarjan struct {
	edges  [][]int
	index  []int // from 1, in the order of the visits; 0 is not visited
	low    []int
	height []int // 0 until the node's component is complete, then from 1
	stack  []int
	visits int
}

func (t *tarjan) visit(v int) {
	t.visits++
	t.index[v], t.low[v] = t.visits, t.visits
	start := len(t.stack)
	t.stack = append(t.stack, v)
	for _, w := range t.edges[v] {
		switch {
		case t.index[w] == 0:
			t.visit(w)
			t.low[v] = min(t.low[v], t.low[w])
		case t.height[w] == 0:
			t.low[v] = min(t.low[v], t.index[w])
		}
	}
	if t.low[v] != t.index[v] {
		return
	}
	// What lies above v on the stack is v's component; all below it in the graph
	// has its height already.
	component, height := t.stack[start:], 1
	for _, w := range component {
		for _, below := range t.edges[w] {
			height = max(height, t.height[below]+1)
		}
	}
	for _, w := range component {
		t.height[w] = height
	}
	t.stack = t.stack[:start]
}

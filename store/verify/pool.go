package verify

import (
	"context"
	"sync"
)

// A pool runs jobs, which may add others. The last one added is the next to run:
// a directory is finished before its sibling is begun, and few jobs wait.
type pool struct {
	mu   sync.Mutex
	more sync.Cond // a job was added, or the last one ended
	jobs []func() error
	busy int
	err  error // the first one; no job is begun after it
}

func (p *pool) push(job func() error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.jobs = append(p.jobs, job)
	if p.more.L != nil {
		p.more.Signal()
	}
}

// run runs all jobs and those that they add, and returns the first error.
func (p *pool) run(ctx context.Context, workers int) error {
	p.more.L = &p.mu
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() { p.work(ctx) })
	}
	wg.Wait()
	return p.err
}

func (p *pool) work(ctx context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		for len(p.jobs) == 0 && p.busy > 0 && p.err == nil {
			p.more.Wait()
		}
		if len(p.jobs) == 0 || p.err != nil {
			p.more.Broadcast()
			return
		}
		job := p.jobs[len(p.jobs)-1]
		p.jobs = p.jobs[:len(p.jobs)-1]
		p.busy++
		p.mu.Unlock()
		err := ctx.Err()
		if err == nil {
			err = job()
		}
		p.mu.Lock()
		p.busy--
		if p.err == nil {
			p.err = err
		}
	}
}

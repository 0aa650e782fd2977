package authparam

// A window delivers what fill produces to callers of Read, whatever the size
// of their buffers: fill works in place, on the caller's own buffer, and only
// where that is too small on one of ours.
type window struct {
	out []byte // to be delivered before anything else
	err error  // to be delivered after out, and from then on
	own []byte // made when first needed
}

// read is Read, with a fill that needs a buffer of at least least bytes. An
// error of fill is final.
func (w *window) read(p []byte, least int, fill func(buf []byte) (int, error)) (n int, err error) {
	if len(w.out) == 0 && w.err == nil {
		if len(p) >= least {
			n, w.err = fill(p)
			return n, w.err
		}
		if w.own == nil {
			w.own = make([]byte, least)
		}
		n, w.err = fill(w.own)
		w.out = w.own[:n]
	}
	if len(w.out) == 0 {
		return 0, w.err
	}
	n = copy(p, w.out)
	w.out = w.out[n:]
	return n, nil
}

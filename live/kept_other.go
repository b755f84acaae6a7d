//go:build !unix

package live

import "errors"

const writesAtOnce = false

func (k *kept) try([]byte) (int, error) { return 0, errors.ErrUnsupported }

import { conformance } from '../../conformance.test-util.ts';
import { rigSubject } from '../../rig.test-util.ts';
import { dialOpenssh } from './openssh.ts';

conformance("openssh: the system's ssh against a real sshd", () => rigSubject({ dial: dialOpenssh }));

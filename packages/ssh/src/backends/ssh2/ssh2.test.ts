import { conformance } from '../../conformance.test-util.ts';
import { rigSubject } from '../../rig.test-util.ts';

conformance('ssh2 against a real sshd', () => rigSubject());

/** The real servers and clients that tests run against. */
export { asInstalled, canUnshare, type Installed } from './as-installed.ts';
export { rigPrograms } from './cache.ts';
export { makeCertificate, type TestCertificate } from './certificate.ts';
export { type Display, startDisplay } from './display.ts';
export { type LoginServer, startDovecot } from './dovecot.ts';
export { type RigOptions, startRig } from './gate.ts';
export { connectMarionette, type Marionette } from './marionette.ts';
export { type OpensmtpdOptions, opensmtpd, startOpensmtpd } from './opensmtpd.ts';
export { startPostfix } from './postfix.ts';
export { type Preferences, startThunderbird, type Thunderbird } from './thunderbird.ts';
export { fetchTool, mbsyncTlsKeyword, type Tool } from './tools.ts';

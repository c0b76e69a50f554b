import pickle,numpy as np,torch,time,ranker as rk,ranker_training as rt
from offline.fitting import Schedule
torch.set_num_threads(2)
R=pickle.load(open(sys.argv[1]+'.pkl','rb')); variants=eval(sys.argv[2])
def TL(d): return rt.TrainingLists(torch.tensor(d['X']),torch.tensor(d['items']),torch.tensor(d['recent']),torch.tensor(d['liked']),torch.tensor(d['y']),d['npos'])
G=1/np.log2(np.arange(2,202))
def nd(y,n,s):
    o=np.argsort(-s,1,kind='stable'); hit=np.take_along_axis(y,o,1)
    return np.stack([(hit[:,:k]*G[:k]).sum(1)/np.r_[1e9,np.cumsum(G)][np.minimum(n,k)] for k in (10,50)]+[hit[:,:50].sum(1)/np.maximum(n,1)],1)
def ci(a,u):
    un,ix=np.unique(u,return_inverse=True); s=np.stack([np.bincount(ix,a[:,j]) for j in range(a.shape[1])],1); c=np.bincount(ix)
    w=np.random.default_rng(0).multinomial(len(un),np.full(len(un),1/len(un)),500); return np.quantile(w@s/(w@c)[:,None],[.025,.975],axis=0).round(4).tolist()
V,T,P=(TL(R[k]) for k in ('valid','test','online')); vec={k:torch.tensor(R[k]['vectors']) for k in R}
base={k:nd(R[k]['y'],R[k]['npos'],R[k]['score']) for k in R}; okk={k:R[k]['npos']>0 for k in R}
for va in variants:
    va=dict(va); dropf=va.pop('drop',[]); ns=va.pop('seeds',2); final=va.pop('final',False); mix=va.pop('mix',False)
    def mask(L):
        if not dropf: return L
        X=L.features.clone(); X[...,dropf]=0; return rt.TrainingLists(X,L.candidates,L.recent,L.liked,L.labels,L.relevant)
    v=mask(V); fold=R['valid']['user']%4; t=time.time(); eps=[]; out=np.zeros_like(base['valid'])
    for s in range(ns):
        for k in range(4):
            q=fold==k; held=v.select(q); yy,nn_=R['valid']['y'][q],R['valid']['npos'][q]
            sch=Schedule(25,lambda m:float(nd(yy,nn_,rt.score_lists(m,held,vec['valid']))[nn_>0,0].mean()),patience=4)
            # epochs chosen on fold k+1, reported on k
            net,b=rt.fit_ranker(v.select(~q),vec['valid'],Schedule(va.get('E',10)) if 'E' in va else sch,s,**{a:b_ for a,b_ in va.items() if a!='E'}); eps.append(b.epochs)
            out[q]+=nd(yy,nn_,rt.score_lists(net,held,vec['valid']))/ns
    o=okk['valid']; print(va,'drop',dropf,'epochs',eps,'| valid recall',base['valid'][o].mean(0).round(4),'ranker',out[o].mean(0).round(4),ci((out-base['valid'])[o],R['valid']['user'][o]),'%.1fs'%(time.time()-t),flush=True)
    if final:
        E=va.pop('E',int(round(np.mean(eps)))); 
        t=time.time(); net,_=rt.fit_ranker(mask(V),vec['valid'],Schedule(E),0,**va); x=nd(R['test']['y'],R['test']['npos'],rt.score_lists(net,mask(T),vec['test'])); o=okk['test']
        print('  valid->test: recall',base['test'][o].mean(0).round(4),'ranker',x[o].mean(0).round(4),ci((x-base['test'])[o],R['test']['user'][o]))
        x=0
        for s in range(ns):
            t=time.time(); net,_=rt.fit_ranker(mask(T),vec['test'],Schedule(E),s,**va); sec=time.time()-t; x=x+nd(R['online']['y'],R['online']['npos'],rt.score_lists(net,mask(P),vec['online']))/ns
        o=okk['online']
        print('  test->online: recall',base['online'][o].mean(0).round(4),'ranker',x[o].mean(0).round(4),ci((x-base['online'])[o],R['online']['user'][o]),'fit %.1fs'%sec)
        torch.save(net.state_dict(),sys.argv[1]+'_net.pt')
        import os
        if os.path.exists(sys.argv[1]+'_lm_online.npy'):
            l=nd(R['online']['y'],R['online']['npos'],np.load(sys.argv[1]+'_lm_online.npy')); print('  LambdaMART online',l[o].mean(0).round(4),'ranker-LM',ci((x-l)[o],R['online']['user'][o]))
